"""The attack ladder: families of attackers by what they may touch, and what the best of each ends up with."""
