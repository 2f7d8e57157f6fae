"""The released code's own modules, from a checkout that the user names; nothing of it is in this repository.

Only its preconditioned linear layer and its condition number are imported: they need torch alone. The equations around them
(`training_step`: loss, both regularizers on the batch, Adam) are short and written here anew.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch  # pyright: ignore[reportMissingImports]

from benchmarks._torch_step import tensor
from cimm_jax.errors import InputError

COMMIT = "b749964785b07b66180afb4a929099d34c09b861"
"""The commit that the project's statements are about."""

FILES = {"linear": "models/linear.py", "loss": "utils/loss.py"}


class Released(NamedTuple):
    """What is used of a checkout.

    Attributes:
      layer: class of the linear layer with the preconditioned backward pass.
      condition_number: (S, return_eigvals=True) -> sigma_min, sigma_max, log kappa.
    """

    layer: type[torch.nn.Linear]
    condition_number: Callable


def load(folder: Path) -> Released:
    """Imports the modules; warns on standard error if the checkout is at another commit than `COMMIT`.

    Raises:
      InputError: if a file is missing.
    """
    for name in FILES.values():
        if not (folder / name).is_file():
            raise InputError(f"--released-code: {folder} has no {name}; give a checkout of the paper's released code")
    found = _commit(folder)
    if found != COMMIT:
        print(f"warning: --released-code is at commit {found}; this benchmark is written for {COMMIT}", file=sys.stderr)
    modules = {name: _module(f"released_{name}", folder / path) for name, path in FILES.items()}
    return Released(modules["linear"].Linear, modules["loss"].condition_number)


def _commit(folder: Path) -> str:
    shown = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return shown or "unknown (no git repository)"


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Settings(NamedTuple):
    """Of its configuration: lambda_r1, lambda_r2, lambda_reg, lr, and whether the primary task is regression."""

    lambda_primary: float
    lambda_harmful: float
    ridge: float
    rate: float
    regression: bool


class Step:
    """One training step of the released code on every call, its condition numbers and Adam included.

    Args:
      released: its modules.
      theta: the extractor in our convention, shape (d, d); the layer's weight is its transpose, its bias zero at first.
      omega: primary head, shape (d,).
      settings: of its configuration.
    """

    def __init__(self, released: Released, theta, omega, settings: Settings):
        size = len(theta)
        self.layer = released.layer(size, size, dtype=torch.float64)
        with torch.no_grad():
            self.layer.weight.copy_(tensor(theta).T)
            assert self.layer.bias is not None
            self.layer.bias.zero_()
        self.omega = torch.nn.Parameter(tensor(omega))
        self.settings = settings
        self._condition_number = released.condition_number
        self.optimizer = torch.optim.Adam([*self.layer.parameters(), self.omega], lr=settings.rate)

    def __call__(self, x_primary: torch.Tensor, y_primary: torch.Tensor, x_harmful: torch.Tensor) -> float:
        """One step on a batch; returns the loss, which the released code fetches at every step too."""
        scores = self.layer(x_primary) @ self.omega
        if self.settings.regression:
            loss = ((y_primary - scores) ** 2).sum() / len(y_primary)
        else:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, y_primary)
        well, ill = self.regularizers(x_primary, x_harmful)
        total = loss + self.settings.lambda_primary * well + self.settings.lambda_harmful * ill
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        return total.item()

    def regularizers(self, x_primary: torch.Tensor, x_harmful: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """R_well of the primary batch and R_ill of the harmful one, k and p both the number of features."""
        size = x_primary.shape[-1]
        primary = self.layer(x_primary, lambda_reg=1.0, use_precond=True)
        harmful = self.layer(x_harmful, lambda_reg=self.settings.ridge, use_precond=True)
        s_primary, s_harmful = primary.T @ primary, harmful.T @ harmful
        _, largest, _ = self._condition_number(s_primary, return_eigvals=True)
        smallest, _, _ = self._condition_number(s_harmful, return_eigvals=True)
        well = largest**2 / 2 - (s_primary**2).sum() / (2 * size)
        return well, 1 / ((s_harmful**2).sum() / (2 * size) - smallest**2 / 2)
