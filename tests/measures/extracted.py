"""Extractions that tests judge: a map that is no good for anything in particular, and one of features that forget their map."""

import jax.numpy as jnp
import numpy as np
from pairs import D

from cimm_jax import Task, TaskPair, extract
from cimm_jax.measures.extraction import Rounding

THETA = jnp.asarray(np.random.default_rng(3).standard_normal((D, D)))


def whitening(x):
    """The map behind which the rows of x have the identity as their covariance."""
    values, vectors = np.linalg.eigh(np.asarray(x.T @ x))
    return jnp.asarray(vectors / np.sqrt(values))


def forgotten(extraction):
    """The same features, of which nobody knows how they came about."""
    return extraction._replace(before_rounding=Rounding(), after_rounding=Rounding(), theta=None)


def blown_up(rng, pair, factor):
    """The pair without one direction, behind a map that makes it `factor` times as prominent as the others."""
    basis = np.linalg.qr(rng.standard_normal((D, D)))[0]
    lacking = (basis * np.r_[0, np.ones(D - 1)]) @ basis.T
    without = TaskPair(*(Task(jnp.asarray(np.asarray(task.x) @ lacking), task.y) for task in pair))
    return extract(jnp.asarray(basis * np.r_[factor, np.linspace(1, 2, D - 1)]), without)
