"""The front door: everything at once, for those who do not know the theory."""
