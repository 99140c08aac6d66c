"""One pair from files to files: align, register, warp, measure, draw."""
