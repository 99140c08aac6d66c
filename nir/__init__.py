"""NIR: medical image registration via neural fields."""

__version__ = "0.1.0"
