"""What a registration is worth: overlap, Jacobians, signs of failure, verdicts, statistics."""
