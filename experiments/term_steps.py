"""Steps along one term of Algorithm 1 alone: what they do to both condition numbers, and what the scalar recurrences say.

For a linear extractor and the term's K^{-1} gradient, theta' = theta (I - eta G), features move by -eta F G, and every singular
value of H = F^T F by itself (`regularizers.recurrence`):

    F' = F - eta F V diag(w_i) V^T,     sigma_i' = sigma_i (1 - eta w_i)^2,     w_i = c_i sigma_i.

Where blocks are trained, the identity layer with S^{-1} in the place of K^{-1} (Eq. 18) makes the features' gradient
F V diag(c_i) V^T, so w_i = c_i; but parameters move, and features only through them. The recurrences' eta is then the one that
fits the features' real movement best (least squares), and how well it does is the cosine between that and what they assume.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.numerics.decompositions import svd
from cimm_jax.numerics.products import product
from cimm_jax.numerics.regularizers import ill_coefficients, recurrence, well_coefficients
from cimm_jax.numerics.spectra import numerical_rank

SIZES = (0.1, 1.0, 10.0)
"""Of steps, in those of training: learning rate times lambda."""

OWN = {"well": "primary", "ill": "harmful"}
"""Whose condition number each term is to change; R_well lowers, R_ill raises it."""

LOSS = "loss"


class Extractor(NamedTuple):
    """An extractor whose parameters move, as functions of these.

    Attributes:
      features: of a task's fixed rows, "primary" or "harmful", shape (N, d).
      slope: of a term, "well", "ill" or "loss", on these rows, a tree like the parameters.
      trained: of "well" and "ill", the slope that training has of them, on its own rows; None where it is the same.
      sizes: by term, the step of training.
      layered: whether the terms' gradients go through S^{-1} and not through K^{-1}.
    """

    features: Callable[[Any, str], jax.Array]
    slope: Callable[[Any, str], Any]
    trained: Callable[[Any, str], Any] | None
    sizes: Mapping[str, float]
    layered: bool


class Predicted(NamedTuple):
    """What the recurrences make of a step.

    Attributes:
      log_kappa: after it.
      sigma: singular values of H after it, not sorted again.
      step: eta.
      cosine: between the features' movement and the one assumed; 1 for linear extractors.
    """

    log_kappa: jax.Array
    sigma: jax.Array
    step: jax.Array
    cosine: jax.Array


def moved(params: Any, slope: Any, size: float) -> Any:
    """Parameters after a step of that size down a slope."""
    return jax.tree.map(lambda leaf, of: leaf - size * of, params, slope)


@jax.jit
def log_kappa(features: jax.Array) -> jax.Array:
    """Log kappa of H = F^T F by Eq. 1, zero being what float64 cannot tell from it."""
    return _log_kappa(_sigma(features))


@jax.jit
def smallest_direction(features: jax.Array) -> jax.Array:
    """The unit vector, shape (d,), along which features have their smallest singular value above zero."""
    _, s, vt = svd(features)
    return vt[numerical_rank(s**2) - 1]


@partial(jax.jit, static_argnames=("term", "layered"))
def predicted(before: jax.Array, after: jax.Array, *, term: str, layered: bool) -> Predicted:
    """Of the features of a term's own task before and after a step of it."""
    u, s, vt = svd(before)
    sigma = s**2
    weights = _weights(sigma, term, layered)
    assumed = product(u * (s * weights), vt)
    movement = before - after
    along, lengths = (assumed * movement).sum(), jnp.sqrt((assumed**2).sum() * (movement**2).sum())
    step = along / (assumed**2).sum()
    return Predicted(*_after(sigma, weights, step), step, along / lengths)


@partial(jax.jit, static_argnames=("term", "layered"))
def carried(sigma: jax.Array, step: jax.Array, *, term: str, layered: bool) -> tuple[jax.Array, jax.Array]:
    """Log kappa and singular values, sorted, after a step from singular values that were themselves predicted."""
    log, after = _after(sigma, _weights(sigma, term, layered), step)
    return log, jnp.flip(jnp.sort(after))


def term_records(extractor: Extractor, params: Any) -> list[dict[str, Any]]:
    """Of each term and size of step: by how much both log kappa change, and what was predicted of the term's own.

    "well, trained" and "ill, trained" are steps along training's own slopes, of one size and without prediction.
    """

    def both(params: Any) -> dict[str, jax.Array]:
        return {task: extractor.features(params, task) for task in OWN.values()}

    before = both(params)
    begun = {task: float(log_kappa(x)) for task, x in before.items()}

    def changes(after: Mapping[str, jax.Array]) -> dict[str, float]:
        return {task: float(log_kappa(x)) - begun[task] for task, x in after.items()}

    found = []
    for term, task in OWN.items():
        slope = extractor.slope(params, term)
        for multiple in SIZES:
            after = both(moved(params, slope, multiple * extractor.sizes[term]))
            told = predicted(before[task], after[task], term=term, layered=extractor.layered)
            changed = {"predicted": float(told.log_kappa) - begun[task], "cosine": float(told.cosine)}
            found.append({"term": term, "size": multiple, **changes(after), **changed})
        if extractor.trained is not None:
            after = both(moved(params, extractor.trained(params, term), extractor.sizes[term]))
            found.append({"term": f"{term}, trained", "size": 1.0, **changes(after)})
    after = both(moved(params, extractor.slope(params, LOSS), extractor.sizes[LOSS]))
    return [*found, {"term": LOSS, "size": 1.0, **changes(after)}]


def alone_records(extractor: Extractor, params: Any, term: str, *, steps: int, size: float) -> dict[str, list[float]]:
    """A descent of a term alone: by how much its own task's log kappa has changed after each step, and what was predicted.

    The prediction starts from the first spectrum and is told the eta of every step, and nothing else of the way.
    """
    task = OWN[term]
    features = extractor.features(params, task)
    sigma, begun = _sigma(features), float(log_kappa(features))
    found: dict[str, list[float]] = {"observed": [], "predicted": []}
    for _ in range(steps):
        params = moved(params, extractor.slope(params, term), size * extractor.sizes[term])
        after = extractor.features(params, task)
        step = predicted(features, after, term=term, layered=extractor.layered).step
        log, sigma = carried(sigma, step, term=term, layered=extractor.layered)
        features = after
        found["observed"].append(float(log_kappa(after)) - begun)
        found["predicted"].append(float(log) - begun)
    return found


def _sigma(features: jax.Array) -> jax.Array:
    return svd(features)[1] ** 2


def _log_kappa(sigma: jax.Array) -> jax.Array:
    counts = jnp.arange(len(sigma)) < numerical_rank(jnp.flip(jnp.sort(sigma)))
    ordered = jnp.flip(jnp.sort(sigma))
    return jnp.log(ordered[0]) - jnp.log(jnp.where(counts, ordered, ordered[0]).min())


def _weights(sigma: jax.Array, term: str, layered: bool) -> jax.Array:
    """The w_i."""
    coefficients = well_coefficients(sigma) if term == "well" else ill_coefficients(sigma)
    counts = jnp.arange(len(sigma)) < numerical_rank(sigma)
    return jnp.where(counts, coefficients, 0) if layered else coefficients * sigma


def _after(sigma: jax.Array, weights: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log kappa and singular values after the recurrences' step."""
    after = recurrence(sigma, jnp.where(sigma > 0, weights / jnp.where(sigma > 0, sigma, 1), 0), step)
    return _log_kappa(after), after
