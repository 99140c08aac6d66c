"""Transforms as files: read, written, chained, applied to images, points and surfaces, scored."""
