"""The fit of one pair: phases, their settings and presets, and the solvers that do them."""
