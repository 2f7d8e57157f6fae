"""What is known in closed form of a pair of tasks: the pencil, limits, allocation of a budget, the ridge, the head that absorbs."""
