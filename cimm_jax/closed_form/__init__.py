"""What is known of a pair in closed form: the pencil, limits, allocation of a budget, the ridge, erasure, heads behind maps."""
