"""Algorithm 1's step in eager PyTorch, written from the paper's equations; imported only where torch is installed."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch  # pyright: ignore[reportMissingImports]


class Weights(NamedTuple):
    """Lambda of both regularizers and Adam's learning rate."""

    primary: float
    harmful: float
    rate: float


def tensor(array) -> torch.Tensor:
    """A copy in float64."""
    return torch.tensor(np.asarray(array), dtype=torch.float64)


def automatic_direction(theta: torch.Tensor, x: torch.Tensor, regularizer: Callable[[torch.Tensor], torch.Tensor]):
    """K^{-1} grad_theta R(H) = 2 theta dR/dH, dR/dH by autograd through all eigenvalues of the (m, m) matrix H."""
    f = x @ theta
    h = (f.T @ f).requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(regularizer(torch.linalg.eigvalsh(h)), h)
    return 2 * theta @ slope


def well(sigma: torch.Tensor) -> torch.Tensor:
    """R_well of eigenvalues in ascending order."""
    return sigma[-1] ** 2 / 2 - (sigma**2).sum() / (2 * len(sigma))


def ill(sigma: torch.Tensor) -> torch.Tensor:
    """R_ill of eigenvalues in ascending order, of which those at rounding level are zero."""
    kept = sigma[sigma > len(sigma) * torch.finfo(sigma.dtype).eps * sigma[-1]]
    return 1 / ((kept**2).sum() / (2 * len(kept)) - kept[0] ** 2 / 2)


def small_direction(theta: torch.Tensor, x: torch.Tensor, coefficients: Callable[[torch.Tensor], torch.Tensor]):
    """The same from the small Gram matrix, theta F^T U diag(c) U^T F, for a batch without ties and of full rank."""
    f = x @ theta
    sigma, u = torch.linalg.eigh(f @ f.T)
    return theta @ f.T @ ((u * coefficients(sigma)) @ (u.T @ f))


def well_slopes(sigma: torch.Tensor, size: int) -> torch.Tensor:
    """c_i of R_well, ascending."""
    slopes = torch.full_like(sigma, -2 / size)
    slopes[-1] += 2
    return slopes


def ill_slopes(sigma: torch.Tensor) -> torch.Tensor:
    """c_i of R_ill, ascending."""
    slopes = torch.full_like(sigma, -2 / len(sigma))
    slopes[0] += 2
    return slopes * ill(sigma) ** 2


class Step:
    """Theta and omega, and Adam's moments of both; each call makes one step on the batch.

    Args:
      theta: extractor, shape (d, d).
      omega: primary head, shape (d,).
      batch: inputs and targets of the primary batch and inputs of the harmful one.
      weights: of the terms, and the learning rate.
      small: the small Gram matrix's algebra instead of autograd through the large one.
    """

    def __init__(self, theta, omega, batch, weights: Weights, *, small: bool):
        self.theta = torch.nn.Parameter(tensor(theta))
        self.omega = torch.nn.Parameter(tensor(omega))
        self.x_primary, self.y_primary, self.x_harmful = map(tensor, batch)
        self.weights = weights
        self.optimizer = torch.optim.Adam([self.theta, self.omega], lr=weights.rate)
        self._directions = self._small if small else self._automatic

    def __call__(self) -> None:
        """One step."""
        self.optimizer.zero_grad()
        residual = self.x_primary @ (self.theta @ self.omega) - self.y_primary
        ((residual**2).mean() / 2).backward()
        with torch.no_grad():
            primary, harmful = self._directions(self.theta.detach())
            assert self.theta.grad is not None
            self.theta.grad += self.weights.primary * primary + self.weights.harmful * harmful
        self.optimizer.step()

    def _automatic(self, theta: torch.Tensor):
        return automatic_direction(theta, self.x_primary, well), automatic_direction(theta, self.x_harmful, ill)

    def _small(self, theta: torch.Tensor):
        return (
            small_direction(theta, self.x_primary, lambda sigma: well_slopes(sigma, len(theta))),
            small_direction(theta, self.x_harmful, ill_slopes),
        )
