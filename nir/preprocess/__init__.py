"""From a scan to a prepared brain: skull strip, bias, intensities, affine by ANTs."""
