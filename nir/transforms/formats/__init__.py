"""Formats of transform files, one file each with its ``FORMAT``; other packages bring more."""
