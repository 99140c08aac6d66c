"""The solvers of a phase: search, fluid and field."""
