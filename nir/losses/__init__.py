"""What a fit compares and penalises: similarities, structures, keypoints, regularity."""
