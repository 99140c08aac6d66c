"""Files: images, warps, tables, points, and where results lie."""
