"""The similarities by which a fit compares images, one card a file."""
