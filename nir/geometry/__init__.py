"""Grids, frames, dense and point-wise transforms, their composition, inverse and resampling."""
