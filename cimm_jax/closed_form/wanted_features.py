"""What blocks can be trained to give instead of a map behind them: mapped features, turned and moved to where rectifiers reach.

A turn changes no condition number and no head, and a shift no head with an intercept, so both are free to be chosen such that
what is wanted lies near what is there.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.closed_form.label_directions import centred_columns, covariance_roots
from cimm_jax.numerics.decompositions import svd
from cimm_jax.numerics.hessian import covariance
from cimm_jax.numerics.inputs import as_matrix
from cimm_jax.numerics.products import product
from cimm_jax.numerics.spectra import rounding_tolerance

__all__ = ["COARSE", "Goal", "goal_of"]

COARSE = 1e-2
"""Of the mean variance wanted; directions with less may be missed by that much."""


class Goal(NamedTuple):
    """Features that are wanted of trained blocks.

    Attributes:
      theta: from published features to wanted ones before the shift, shape (d, d).
      shift: shape (d,).
      units: of the primary and of the harmful task, shape (d, d) each; errors times this are in units of the deviation that is
        wanted of the task's rows, over the root of how many directions there are.
    """

    theta: jax.Array
    shift: jax.Array
    units: tuple[jax.Array, jax.Array]

    def features(self, published: jax.Array) -> jax.Array:
        """Those wanted where published ones of shape (N, d) were."""
        return product(published, self.theta) + self.shift[None, :]


def goal_of(theta: jax.Array, primary: jax.Array, harmful: jax.Array, *, coarse: float = COARSE) -> Goal:
    """The goal that is as good as features behind a map, and easiest to reach from the published ones. Pure.

    wanted = s (x theta Q) + shift. The columns of Q are orthonormal: as many as theta has directions, in the features that vary
    most, turned so that what is wanted comes nearest to what is published (Procrustes); the other features are wanted constant.
    s keeps the published variance. Where no published feature is below 0, no wanted one is: shift lifts those that would be.

    Errors count in units of the deviation that is wanted of the task's own rows, direction by direction: kappa and what heads
    read depend on directions with little variance as on those with much, and harmful rows may vary far less than primary ones.

    Args:
      theta: the map, shape (d, d), of any rank, as `inputs.as_matrix` takes it.
      primary: published features, shape (N, d), the same.
      harmful: the same, shape (M, d). Both tasks weigh alike.
      coarse: least variance that a direction's errors are measured by, relative to the mean over those directions.

    Raises:
      InputError: if something is no matrix of real numbers.
    """
    theta, primary, harmful = as_matrix(theta, "theta"), as_matrix(primary, "primary"), as_matrix(harmful, "harmful")
    tasks = (primary, harmful)
    published = _centred(tasks)
    _, sigma, vt = svd(theta)
    kept = sigma > rounding_tolerance(len(theta), sigma.dtype) * sigma[0]
    directions = kept.sum()
    plain = product(theta, jnp.where(kept[:, None], vt, 0).T)
    variance = jnp.square(published).sum(0)
    live = jnp.argsort(-variance)
    common = product(product(published, plain).T, published[:, live])
    # Features beyond those that the directions need are turned among themselves, and then left out.
    common = jnp.where(kept[:, None] & kept[None, :], common, 0) + jnp.diag(jnp.where(kept, 0, jnp.abs(common).sum()))
    u, _, wt = svd(common)
    turn = jnp.where(kept[:, None] & kept[None, :], product(u, wt), 0)
    turned = jnp.zeros_like(theta).at[:, live].set(product(plain, turn))
    energy = jnp.square(product(published, turned)).sum()
    scale = jnp.sqrt(variance.sum() / jnp.where(energy > 0, energy, 1))
    turned = scale * turned
    wanted = [product(x, turned) for x in tasks]
    least = jnp.minimum(*(x.min(0) for x in wanted))
    rectified = jnp.minimum(*(x.min() for x in tasks)) >= 0
    shift = jnp.where(rectified, jnp.maximum(-least, 0), 0)
    share = len(theta) / directions.astype(theta.dtype)

    def units(x: jax.Array) -> jax.Array:
        whitening, _ = covariance_roots(covariance(centred_columns(x)) / len(x), coarse * share)
        return whitening * jnp.sqrt(share / len(theta))

    return Goal(turned, shift, (units(wanted[0]), units(wanted[1])))


def _centred(tasks: tuple[jax.Array, jax.Array]) -> jax.Array:
    """All rows minus the mean of the tasks' means, each task divided so that squares add up to half of its mean square."""
    mean = (tasks[0].mean(0) + tasks[1].mean(0)) / 2
    return jnp.concatenate([(x - mean[None, :]) / (2 * len(x)) ** 0.5 for x in tasks])
