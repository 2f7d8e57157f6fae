"""Ways of training a transformer's last block that tell apart why kappa_H falls there in Algorithm 1."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax import methods
from cimm_jax.networks import functional
from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.tails import tail_features
from cimm_jax.numerics.penalty import Penalty
from cimm_jax.numerics.products import product
from cimm_jax.numerics.regularizers import r_ill, r_well
from cimm_jax.tasks import TaskPair
from experiments.last_norms import hyperplane_normal, with_norm_kept, without_norm
from experiments.recurrence_subjects import BATCH_ROWS, FIXED_ROWS, Opened, drawn_rows, trained_parts, wide
from experiments.term_steps import log_kappa, smallest_direction


def bare_well(batch: TaskPair) -> jax.Array:
    """R_well of the primary features' Hessian, without K^{-1}."""
    return r_well(product(batch.primary.x.T, batch.primary.x))


def bare_ill(batch: TaskPair) -> jax.Array:
    """R_ill of the harmful features' Hessian, without K^{-1}."""
    return r_ill(product(batch.harmful.x.T, batch.harmful.x))


def as_it_is(of: Opened) -> Backbone:
    """The network itself."""
    return of.network


def normalisation_kept(of: Opened) -> Backbone:
    """With a last normalisation that does not learn."""
    return with_norm_kept(of.network)


def normalisation_left_out(of: Opened) -> Backbone:
    """Without a last normalisation, the head fitted."""
    return without_norm(of.network, of.cut, of.primary)


class Variant(NamedTuple):
    """A way of training.

    Attributes:
      penalties: added to the primary loss, each balanced.
      network: what is trained.
      batch_rows: of each task in a step.
      is_wide: in float64.
      longest_gradient: longer ones are shortened to it; None leaves them.
    """

    penalties: tuple[Penalty, ...]
    network: Callable[[Opened], Backbone] = as_it_is
    batch_rows: int = BATCH_ROWS
    is_wide: bool = False
    longest_gradient: float | None = None


_BOTH = methods.algorithm1().penalties or ()
_BARE = (Penalty(bare_well), Penalty(bare_ill))
VARIANTS = {
    "plain": Variant(()),
    "R_well": Variant(_BOTH[:1]),
    "R_ill": Variant(_BOTH[1:]),
    "Algorithm 1": Variant(_BOTH),
    "normalisation kept": Variant(_BOTH, normalisation_kept),
    "normalisation left out": Variant(_BOTH, normalisation_left_out, longest_gradient=1.0),
    "R_ill without K^-1": Variant(_BARE[1:]),
    "Algorithm 1 without K^-1": Variant(_BARE),
    "float64, 192 rows a step": Variant(_BOTH, batch_rows=192, is_wide=True),
}
"""By name; all but those named after a term are Algorithm 1. Without a normalisation tokens are long, and so are gradients:
they are shortened, or features become infinite."""


def trained_course(of: Opened, variant: Variant, *, seed: int, epochs: int) -> list[dict[str, Any]]:
    """Before training and after each epoch, on fixed rows in float64: both log kappa, and where the smallest directions are.

    "shared" is the squared cosine between both tasks'; "normal" that of the harmful one with the published hyperplane's normal;
    and "lifted" the log of the harmful features' mean square along that.
    """
    normal = hyperplane_normal(of.network)
    changed = of._replace(network=variant.network(of))
    if variant.is_wide:
        changed = Opened(wide_network(changed.network), of.cut, *map(_wide_rows, (of.primary, of.harmful)))
    parts, _ = trained_parts(
        changed,
        variant.penalties,
        seed=seed,
        epochs=epochs,
        batch_rows=variant.batch_rows,
        longest_gradient=variant.longest_gradient,
    )
    rows = drawn_rows(of, FIXED_ROWS, np.random.default_rng(seed)).wide()
    found = []
    for moment in map(wide, parts):
        features = {
            "primary": jnp.asarray(tail_features(moment, rows.primary, of.cut)),
            "harmful": jnp.asarray(tail_features(moment, rows.harmful, of.cut)),
        }
        smallest = {task: np.asarray(smallest_direction(x)) for task, x in features.items()}
        found.append(
            {
                **{task: float(log_kappa(x)) for task, x in features.items()},
                "shared": float(smallest["primary"] @ smallest["harmful"]) ** 2,
                "normal": float(smallest["harmful"] @ normal) ** 2,
                "lifted": float(np.log(np.mean((np.asarray(features["harmful"]) @ normal) ** 2))),
            }
        )
    return found


def wide_network(network: Backbone) -> Backbone:
    """The network with parameters of float64."""
    return functional.merge(wide(functional.split(network)))


def _wide_rows(of: Labelled) -> Labelled:
    return of._replace(x=np.asarray(of.x, np.float64))
