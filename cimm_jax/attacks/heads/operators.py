"""Heads by name, each with the rates that it is tried at."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from cimm_jax.attacks.catalogue import Operator
from cimm_jax.attacks.heads._judging import class_loss
from cimm_jax.attacks.heads._kernel_ridge import kernel_ridge
from cimm_jax.attacks.heads._nearest_neighbours import nearest_neighbours
from cimm_jax.attacks.heads._perceptron import perceptron
from cimm_jax.attacks.heads._ridge_regression import ridge_regression
from cimm_jax.attacks.heads._softmax_regression import softmax_regression
from cimm_jax.attacks.protocol import Attack, check_records
from cimm_jax.errors import InputError
from cimm_jax.numerics import losses

__all__ = ["HEADS", "Head", "head_operators"]


class Head(NamedTuple):
    """A head and what it is tried at.

    Attributes:
      build: called with `steps` and `record_at`.
      rates: values of what it tunes; one number, unused, for a head that tunes nothing, or by itself.
      random: whether it uses its key.
      of_probabilities: whether it fits class probabilities, and is judged by their loss; by the squared one if not.
    """

    build: Callable[..., Attack]
    rates: tuple[float, ...]
    random: bool
    of_probabilities: bool


RIDGES = (0.1, 1.0, 10.0)
"""Over the one chosen."""

HEADS = {
    "ridge regression": Head(ridge_regression, RIDGES, random=False, of_probabilities=False),
    "unscaled ridge regression": Head(
        partial(ridge_regression, standardised=False), RIDGES, random=False, of_probabilities=False
    ),
    "softmax regression": Head(softmax_regression, (1e-4, 1e-3, 1e-2, 1e-1, 1.0), random=False, of_probabilities=True),
    "nearest neighbours": Head(nearest_neighbours, (1.0, 5.0, 15.0), random=False, of_probabilities=False),
    "kernel ridge": Head(kernel_ridge, (1.0, 3.0, 10.0), random=True, of_probabilities=False),
    "perceptron": Head(perceptron, (3e-3, 1e-2, 3e-2), random=True, of_probabilities=True),
}
"""A new head is a file, and a line here."""


def head_operators(
    names: Iterable[str] = tuple(HEADS),
    *,
    classes: int,
    steps: int = 300,
    record_at: Sequence[int] | None = None,
) -> tuple[Operator, ...]:
    """Operators by name of `HEADS`, with their grids of rates.

    Args:
      names: which.
      classes: columns of the targets; a single one has the logistic loss where several have softmax. One sweep takes operators
        of one loss.
      steps: of those that take steps, at least 1.
      record_at: ascending numbers of steps to record, none beyond `steps`; None spaces 40 of them evenly in log.

    Raises:
      InputError: if a name is unknown or a number is out of range.
    """
    recorded = check_records(record_at, steps)
    if classes < 1:
        raise InputError(f"classes: needs the number of the targets' columns, at least 1, got {classes}")
    operators = []
    for name in names:
        if name not in HEADS:
            raise InputError(f"names: {name!r} is unknown; choose of {', '.join(HEADS)}")
        head = HEADS[name]
        operators.append(
            Operator(
                name,
                head.build(steps=steps, record_at=recorded),
                rates=head.rates,
                has_rate=len(head.rates) > 1,
                random=head.random,
                adaptive=True,
                loss=class_loss(classes) if head.of_probabilities else losses.squared,
                records=recorded,
            )
        )
    return tuple(operators)
