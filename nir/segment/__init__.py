"""Labels for images that have none."""
