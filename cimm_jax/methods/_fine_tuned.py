"""The attacker who fine-tunes first, against whom `best_response` and `sophon` can train blocks."""

from collections.abc import Callable

import jax

from cimm_jax.errors import InputError
from cimm_jax.numerics.penalty import InnerAttack

__all__ = ["RATES", "fine_tuner"]

RATES = (0.1, 0.3, 1.0)
"""Lengths of an inner attacker's steps."""


def fine_tuner(
    climbed: Callable[[jax.Array, jax.Array], jax.Array],
    steps: int,
    rates: tuple[float, ...],
    images: int | None,
    *,
    least: int,
) -> InnerAttack:
    """The attacker of the settings `fine_tuning_steps`, of which `least` are needed, and those that begin likewise.

    Raises:
      InputError: if one of them is out of range.
    """
    if steps < least:
        raise InputError(f"fine_tuning_steps: needs a number of at least {least}, got {steps}")
    if not rates or not all(0 < rate < float("inf") for rate in rates):
        raise InputError(f"fine_tuning_rates: needs positive finite numbers, got {rates}")
    if images is not None and images < 2:
        raise InputError(f"fine_tuning_images: needs a number of at least 2, got {images}")
    return InnerAttack(climbed, steps, tuple(rates), images)
