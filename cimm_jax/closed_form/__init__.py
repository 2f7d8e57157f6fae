"""What is known in closed form of a pair: the pencil, limits, allocation of a budget, the ridge, the head that absorbs."""
