"""Gradient descent on a least-squares probe, a step at a time in the eigenbasis of its Hessian, NumPy float64.

Written apart from `cimm_jax.numerics.convergence`, so that each checks the other. Everything is about progress = 1 - rate, the
share of an error (or an excess loss) that one step removes. It is computed from the step itself, never as a difference of
nearly equal numbers, so that it keeps its digits at a condition number of 1e12 too, where a rate is 0.999999999999.

Arrays have shape (r,), one entry an eigenvector; a direction of curvature zero carries no label energy and no error.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

FINISHED = 1e-20
"""Less error or excess loss than this share of the start is rounding."""

LONG = 1e9
"""The asymptote of a constant step is looked at after this many times kappa steps."""

FARTHEST = 2.0**60
"""More steps than this are not counted."""


class Problem(NamedTuple):
    """A least-squares probe in the eigenbasis of its Hessian.

    Attributes:
      curvature: eigenvalues h of F^T F.
      energy: label energy along each, ||u_i^T Y||^2; zero where the curvature is.
    """

    curvature: np.ndarray
    energy: np.ndarray

    @property
    def largest(self) -> float:
        """The largest curvature, L."""
        return float(self.curvature.max())

    @property
    def smallest(self) -> float:
        """The smallest that is not zero, mu."""
        return float(self.curvature[self.curvature > 0].min())

    @property
    def first_error(self) -> np.ndarray:
        """Size of a zero probe's error along each direction, sqrt(e_i / h_i)."""
        return np.sqrt(np.divide(self.energy, self.curvature, out=np.zeros_like(self.energy), where=self.curvature > 0))

    @property
    def worst_start(self) -> "Problem":
        """The one whose first error is v_1 / L + v_k / mu: exact line search makes the least possible progress on it."""
        extreme = (self.curvature == self.largest) | (self.curvature == self.smallest)
        return Problem(self.curvature, np.where(extreme, 1 / np.where(extreme, self.curvature, 1), 0))


class Move(NamedTuple):
    """A step of length alpha along the gradient: it multiplies the error along i by 1 - alpha h_i.

    Attributes:
      taken: alpha h_i.
      rest: 2 - alpha h_i, without cancellation where alpha h_i is nearly 2 at every step.
    """

    taken: np.ndarray
    rest: np.ndarray


class Rule(NamedTuple):
    """A choice of step length.

    Attributes:
      name: for tables.
      move: `(problem, error) -> Move`.
      bound: `(kappa) -> progress` that every step is guaranteed to make.
      measures: what the guarantee is about, "error" (||w_t - w*||) or "loss" (above the best).
      length: `(problem) -> alpha`; None if each step chooses its own.
    """

    name: str
    move: Callable[[Problem, np.ndarray], Move]
    bound: Callable[[float], float]
    measures: str
    length: Callable[[Problem], float] | None

    def halved_at_most(self, kappa: float) -> float:
        """Steps after which the excess loss is guaranteed to be at most half; its rate is the error's squared."""
        progress = self.bound(kappa)
        progress = progress if self.measures == "loss" else progress * (2 - progress)
        return 1.0 if progress >= 1 else float(np.ceil(np.log(2) / -np.log1p(-progress)))


class Course(NamedTuple):
    """A descent.

    Attributes:
      error_progress: 1 - ||e_{t+1}|| / ||e_t||, shape (steps,), e the probe minus the best one.
      loss_progress: the same of the excess loss.
      error_left: ||e_t||^2 / ||e_0||^2 (Eq. 16), shape (steps + 1,).
      loss_left: share of the excess loss left, shape (steps + 1,).
    """

    error_progress: np.ndarray
    loss_progress: np.ndarray
    error_left: np.ndarray
    loss_left: np.ndarray

    def progress(self, measure: str) -> np.ndarray:
        """Of the "error" or the "loss", until only rounding is left."""
        made, left = {
            "error": (self.error_progress, self.error_left),
            "loss": (self.loss_progress, self.loss_left),
        }[measure]
        return made[left[:-1] > FINISHED]


def _inverse_smoothness(problem: Problem, error: np.ndarray) -> Move:
    del error
    h, largest = problem.curvature, problem.largest
    return Move(h / largest, 1 + (largest - h) / largest)


def _optimal_constant(problem: Problem, error: np.ndarray) -> Move:
    del error
    h, largest, smallest = problem.curvature, problem.largest, problem.smallest
    return Move(2 * h / (largest + smallest), 2 * (largest - h + smallest) / (largest + smallest))


def _line_search(problem: Problem, error: np.ndarray) -> Move:
    gradient = (problem.curvature * error) ** 2
    below = (problem.curvature * gradient).sum()
    taken = problem.curvature * (gradient.sum() / below if below > 0 else 0.0)
    return Move(taken, 2 - taken)


INVERSE_SMOOTHNESS = Rule(
    "constant step 1/L", _inverse_smoothness, lambda kappa: 1 / kappa, "error", lambda p: 1 / p.largest
)
OPTIMAL_CONSTANT = Rule(
    "constant step 2/(L + mu)",
    _optimal_constant,
    lambda kappa: 2 / (kappa + 1),
    "error",
    lambda p: 2 / (p.largest + p.smallest),
)
LINE_SEARCH = Rule("exact line search", _line_search, lambda kappa: 4 * kappa / (kappa + 1) ** 2, "loss", None)
RULES = (INVERSE_SMOOTHNESS, OPTIMAL_CONSTANT, LINE_SEARCH)


def descend(rule: Rule, problem: Problem, steps: int) -> Course:
    """Makes the steps from a zero probe."""
    error, moved, left = problem.first_error, [], []
    for _ in range(steps):
        taken, rest = rule.move(problem, error)
        size = error**2
        loss = problem.curvature * size
        left.append((size.sum(), loss.sum()))
        moved.append(tuple(_share((part * taken * rest).sum(), part.sum()) for part in (size, loss)))
        error = error * (1 - taken)
    left.append(((error**2).sum(), (problem.curvature * error**2).sum()))
    (error_lost, loss_lost), (size, loss) = np.asarray(moved).T, np.asarray(left).T
    return Course(_of_root(error_lost), loss_lost, size / size[0], loss / loss[0])


def asymptote(rule: Rule, problem: Problem) -> float:
    """Progress of the error in one constant step made after LONG * kappa others, which are taken by powers."""
    error = problem.first_error
    move = rule.move(problem, error)
    steps = LONG * problem.largest / problem.smallest
    log_error = np.log(error, out=np.full_like(error, -np.inf), where=error > 0) + steps * _log_rate(move)
    if np.isneginf(log_error.max()):  # one step removes everything
        return 1.0
    size = np.exp(2 * (log_error - log_error.max()))
    return float(_of_root(_share((size * move.taken * move.rest).sum(), size.sum())))


def halved_after(rule: Rule, problem: Problem) -> float:
    """Constant steps until at most half of the excess loss is left, by powers; infinity beyond FARTHEST."""
    log_rate = _log_rate(rule.move(problem, problem.first_error))
    counts = problem.energy > 0

    def halved(steps: float) -> bool:
        return bool(problem.energy[counts] @ np.exp(2 * steps * log_rate[counts]) <= problem.energy.sum() / 2)

    high = 1.0
    while not halved(high):
        high *= 2
        if high > FARTHEST:
            return float("inf")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if halved(middle) else (middle, high)
    return high


def plain_descent(
    features: np.ndarray, targets: np.ndarray, start: np.ndarray, steps: int, length: float | None
) -> np.ndarray:
    """Losses ||F w_t - Y||^2 of gradient descent on the features themselves, shape (steps + 1,); no length: line search."""
    probe, losses = start, []
    for _ in range(steps + 1):
        residual = features @ probe - targets
        losses.append((residual**2).sum())
        gradient = features.T @ residual
        along = ((features @ gradient) ** 2).sum()
        alpha = length if length is not None else _share((gradient**2).sum(), along)
        probe = probe - alpha * gradient
    return np.asarray(losses)


def _log_rate(move: Move) -> np.ndarray:
    """Logarithm of |1 - taken|; minus infinity where a step removes everything."""
    smaller = np.minimum(move.taken, move.rest)
    return np.log1p(-smaller, out=np.full_like(smaller, -np.inf), where=smaller < 1)


def _of_root(lost) -> np.ndarray:
    """1 - sqrt(1 - lost) without cancellation."""
    lost = np.asarray(lost, float)
    return -np.expm1(0.5 * np.log1p(-lost, out=np.full_like(lost, -np.inf), where=lost < 1))


def _share(part: float, whole: float) -> float:
    """The ratio; 1 of nothing, which is finished."""
    return part / whole if whole > 0 else 1.0
