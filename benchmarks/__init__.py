"""Comparisons with other tools, on the same pairs and the same machine; see README.md."""
