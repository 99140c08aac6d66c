"""Registration engines: what turns a prepared pair into a pair of displacement fields."""
