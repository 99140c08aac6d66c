"""The neural field: encodings, networks, what a fit composes of them, their file."""
