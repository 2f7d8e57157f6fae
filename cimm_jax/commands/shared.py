"""What several commands share: building methods from settings, progress bars, the record of how a result was made."""

import inspect
import math
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits

from cimm_jax import methods
from cimm_jax.errors import InputError
from cimm_jax.metrics import ImmunizationRatio


def build_method(name: str, learning_rate: float, **lambdas: float | None) -> methods.Method:
    """A method by name with the default optimizer at the given rate and those lambdas that were given.

    Raises:
      InputError: if the method is unknown or does not have a lambda that was given, or the rate is not positive.
    """
    function = methods.by_name(name)
    if not 0 < learning_rate < math.inf:
        raise InputError(f"learning_rate: needs a positive finite number, got {learning_rate}")
    given = {key: value for key, value in lambdas.items() if value is not None}
    unknown = given.keys() - inspect.signature(function).parameters.keys()
    if unknown:
        raise InputError(f"{min(unknown)}: method {name!r} has no such setting; leave it out")
    return function(optimizer=methods.default_optimizer(learning_rate), **given)


def check_count(value: int, argument: str) -> None:
    """Raises `InputError` unless the value is at least 1."""
    if value < 1:
        raise InputError(f"{argument}: needs at least 1, got {value}")


def manifest(command: Any) -> dict[str, Any]:
    """How a result was made: the command, its settings, and the versions of what computed it."""
    packages = ("cimm_jax", "jax", "jaxlib", "optax", "numpy")
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(command).items()}
    return {
        "command": type(command).__name__.lower(),
        "settings": settings,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def ratio_record(ratio: ImmunizationRatio) -> dict[str, Any]:
    """A ratio as plain numbers, with the ranks and floors it rests on."""
    record: dict[str, Any] = {
        "rir": ratio.rir,
        "harmful_ratio": ratio.harmful_ratio,
        "primary_ratio": ratio.primary_ratio,
    }
    for name in ("harmful", "harmful_reference", "primary", "primary_reference"):
        record[name] = {key: np.asarray(value) for key, value in getattr(ratio, name)._asdict().items()}
    return record


SMALL_MATRIX = 256
"""Up to this many features, LAPACK is faster with one thread."""


@contextmanager
def blas_threads_for(features: int) -> Iterator[None]:
    """Keeps LAPACK to one thread per call for batches of small matrices, where more threads only wait for each other.

    Measured on two busy cores, 90 pairs of 64 features: 12 s instead of 85 s for 20 steps of four methods.
    """
    with threadpool_limits(1 if features <= SMALL_MATRIX else None, user_api="blas"):
        yield


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Any]:
    """Yields a function that is told how many steps have been made; the bar is drawn on standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total)
        yield lambda made: progress.update(task, completed=made)
