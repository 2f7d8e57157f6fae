"""Attackers who put another head on the features than a linear probe, and tuned linear ones to compare them with.

All standardise the features over the rows fitted, but for the ridge regression that is told not to, have an intercept where
that means something, and see no difference when features that are zero everywhere are added. Targets are classes: -1 and +1,
shape (N,) or (N, C).
"""

from cimm_jax.attacks.heads._kernel_ridge import kernel_ridge
from cimm_jax.attacks.heads._nearest_neighbours import nearest_neighbours
from cimm_jax.attacks.heads._perceptron import perceptron
from cimm_jax.attacks.heads._ridge_regression import ridge_regression
from cimm_jax.attacks.heads._softmax_regression import softmax_regression
from cimm_jax.attacks.heads.operators import HEADS, Head, head_operators

__all__ = [
    "HEADS",
    "Head",
    "head_operators",
    "kernel_ridge",
    "nearest_neighbours",
    "perceptron",
    "ridge_regression",
    "softmax_regression",
]
