"""Deep networks: the frozen trunk's outputs, computed once, and what is done with them."""
