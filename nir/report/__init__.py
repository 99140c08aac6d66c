"""Tables, figures and pages: what a person sees of a run."""
