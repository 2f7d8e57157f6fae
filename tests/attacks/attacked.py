"""Targets to attack, and many attacks in one compiled program: compiling is what takes the time."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax import Task
from cimm_jax.attacks import Target


def make_target(x, y, heldout=None, mapping=None):
    """A target of NumPy arrays; the rows fitted are the held-out ones too if there are no others."""
    given = Target(Task(x, y), Task(x, y) if heldout is None else Task(*heldout), mapping)
    return jax.tree.map(jnp.asarray, given)


def run(attacks, target, seed=0):
    """Traces by name of `attacks`: an attack or (attack, rate) by name. The same attacks are compiled once a shape."""
    pairs = [given if isinstance(given, tuple) else (given, 1.0) for given in attacks.values()]
    rates = jnp.asarray([rate for _, rate in pairs], target.fit.x.dtype)
    traces = _traces(tuple(attack for attack, _ in pairs), jax.random.key(seed), target, rates)
    return dict(zip(attacks, jax.tree.map(np.asarray, traces), strict=True))


@partial(jax.jit, static_argnums=0)
def _traces(attacks, key, target, rates):
    return [attack(key, target, rate) for attack, rate in zip(attacks, rates, strict=True)]


def run_one(attack, target, rate=1.0, seed=0):
    return run({"it": (attack, rate)}, target, seed)["it"]


def seen_by(preparation, target):
    """The target that a prepared attacker gets to see."""
    return jax.jit(preparation(lambda key, target, rate: target))(jax.random.key(0), target, 1.0)


def loss_of(probe, x, y):
    return float(np.mean((x @ probe - y) ** 2) / 2)


def least_loss(x, y):
    return loss_of(np.linalg.lstsq(x, y)[0], x, y)


def share_left(trace, x, y):
    """Excess loss left, as a share of a zero probe's."""
    least = least_loss(x, y)
    return (trace.loss - least) / (np.mean(y**2) / 2 - least)
