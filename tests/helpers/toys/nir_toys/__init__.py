"""What another package may bring: one file each, and a line of its entry points."""
