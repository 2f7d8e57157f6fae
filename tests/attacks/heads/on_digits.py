"""Handwritten digits that come with scikit-learn, 8x8 pixels, some of which are never written on; one split for all heads."""

import jax
import jax.numpy as jnp
import numpy as np
from attacks.attacked import make_target
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from cimm_jax import one_hot

FITTED, JUDGED = 500, 400


def digits():
    """x, labels, held-out x and labels as they are."""
    x, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[: FITTED + JUDGED]
    fit, heldout = order[:FITTED], order[FITTED:]
    return x[fit], labels[fit], x[heldout], labels[heldout]


def digits_target():
    x, labels, heldout_x, heldout_labels = digits()
    return make_target(x, one_hot(labels), (heldout_x, one_hot(heldout_labels)))


def scaled_digits():
    """As `digits`, but as scikit-learn scales them, pixels never written on in the rows fitted left out, and with targets."""
    x, labels, heldout_x, heldout_labels = digits()
    varies = x.std(0) > 0
    x, heldout_x = x[:, varies], heldout_x[:, varies]
    scaler = StandardScaler().fit(x)
    return scaler.transform(x), one_hot(labels), scaler.transform(heldout_x), one_hot(heldout_labels)


def at_rates(attack, target, rates, keys=None):
    """A trace with leading axes (rates, keys), as NumPy arrays."""
    keys = jax.random.split(jax.random.key(0), 1) if keys is None else keys
    over_keys = jax.vmap(attack, in_axes=(0, None, None))
    trace = jax.jit(jax.vmap(over_keys, in_axes=(None, None, 0)))(keys, target, jnp.asarray(rates, target.fit.x.dtype))
    return jax.tree.map(np.asarray, trace)


def squared(scores, y):
    return np.mean((scores - y) ** 2) / 2
