"""Which images attackers have: the same for every rung and network, nested from budget to budget, drawn anew for every seed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cimm_jax.data.reserved import rows_in_rounds
from cimm_jax.errors import InputError

__all__ = ["STANDARD_BUDGETS", "Draws", "ImageBudget", "draw_rows", "image_budgets"]

STANDARD_BUDGETS = (5, 20, 100)
"""Images a class, as far as there are so many; all there are come after them."""


class ImageBudget(NamedTuple):
    """Images that attackers have.

    Attributes:
      a_class: of each class; None for all there are.
      images: how many that are.
    """

    a_class: int | None
    images: int


class Draws(NamedTuple):
    """Rows in an order for each seed.

    Attributes:
      orders: every row once, shape (seeds, N): first one of each class, then another of each, and so on.
      budgets: ascending; the rows of one are the first `images` of an order.
    """

    orders: np.ndarray
    budgets: tuple[ImageBudget, ...]

    def rows(self, budget: ImageBudget) -> np.ndarray:
        """By seed, shape (seeds, images); one seed stands for all where all rows are taken."""
        rows = self.orders[:, : budget.images]
        return rows[:1] if budget.a_class is None else rows


def image_budgets(labels: np.ndarray, asked: Sequence[int] | None) -> tuple[ImageBudget, ...]:
    """Budgets of so many images a class, and of all.

    Args:
      labels: class of each row, shape (N,).
      asked: images a class, ascending; None is as many of `STANDARD_BUDGETS` as leave something for the last.

    Raises:
      InputError: if a number is below 1 or above the images of the smallest class, or they do not ascend.
    """
    classes, counts = np.unique(labels, return_counts=True)
    least = int(counts.min())
    if asked is None:
        asked = [number for number in STANDARD_BUDGETS if number < least]
    if list(asked) != sorted(set(asked)) or (asked and asked[0] < 1):
        raise InputError(f"images_a_class: needs ascending numbers from 1, got {tuple(asked)}")
    if asked and asked[-1] > least:
        smallest = classes[counts.argmin()]
        raise InputError(
            f"images_a_class: needs at most {least}, got {asked[-1]}: class {smallest} has no more images for attackers"
        )
    some = [ImageBudget(number, number * len(classes)) for number in asked if number * len(classes) < len(labels)]
    return (*some, ImageBudget(None, len(labels)))


def draw_rows(labels: np.ndarray, budgets: tuple[ImageBudget, ...], *, seeds: int, seed: int) -> Draws:
    """Draws of rows for so many seeds, from the first one on."""
    return Draws(np.stack([_order(labels, np.random.default_rng((seed, number))) for number in range(seeds)]), budgets)


def _order(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows, rounds = rows_in_rounds(labels, rng)
    return rows[np.lexsort((rng.permutation(len(rows)), rounds))]
