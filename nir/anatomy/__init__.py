"""Models of a cohort's anatomy: the template that is its average."""
