"""What several commands share: building methods from settings, progress bars, the record of how a result was made."""

import inspect
import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits

from cimm_jax import methods
from cimm_jax.cli import PencilSettings
from cimm_jax.closed_form.allocation import check_budget
from cimm_jax.data import checksums
from cimm_jax.errors import InputError
from cimm_jax.measures.metrics import ImmunizationRatio
from cimm_jax.numerics.spectra import PseudoInverse, ReleasedCode

POLICIES = (PseudoInverse(), ReleasedCode())
"""Under which every extractor is measured: the definition, and the rule of published figures."""


def build_methods(
    names: Sequence[str],
    learning_rate: float,
    pencil: PencilSettings,
    *,
    implied: Mapping[str, Any] = MappingProxyType({}),
    **others: Any,
) -> dict[str, methods.Method]:
    """Methods by name: gradient methods with the default optimizer at the given rate, each with the settings it has.

    Args:
      names: of `methods.BY_NAME`.
      learning_rate: of the default optimizer.
      pencil: settings of the closed form.
      implied: settings for those methods that have them; the person did not ask for them by name.
      others: settings that the person gave; None is none.

    Raises:
      InputError: if a method is unknown, the rate is not positive, or a setting that was given belongs to none of them.
    """
    if not 0 < learning_rate < math.inf:
        raise InputError(f"learning_rate: needs a positive finite number, got {learning_rate}")
    given = {key: value for key, value in {**others, **_pencil_settings(pencil)}.items() if value is not None}
    known = {name: inspect.signature(methods.by_name(name)).parameters.keys() for name in names}
    for key in given:
        if not any(key in parameters for parameters in known.values()):
            raise InputError(f"{key}: {' and '.join(names)} have no such setting; leave it out")
    settings = {"optimizer": _default_optimizer(learning_rate), **implied, **given}
    return {
        name: _made(methods.by_name(name), tuple(item for item in settings.items() if item[0] in known[name]))
        for name in names
    }


# Another command of the same process, in a notebook or a test, finds the same methods with the same settings compiled.
_default_optimizer = lru_cache(maxsize=32)(methods.default_optimizer)


@lru_cache(maxsize=256)
def _made(factory: Callable[..., methods.Method], settings: tuple[tuple[str, Any], ...]) -> methods.Method:
    return factory(**dict(settings))


def hessian_for(batch_size: int | None) -> dict[str, Any]:
    """Where batches are asked for, their Hessians are looked at, as the released code does."""
    return {} if batch_size is None else {"hessian": methods.HessianFrom.BATCH}


def _pencil_settings(settings: PencilSettings) -> dict[str, Any]:
    """What was given, as arguments of `methods.pencil`; None where nothing was."""
    labels = {"horizon": settings.horizon, "primary_no_slower_at": settings.primary_no_slower_at}
    labels = {key: value for key, value in labels.items() if value is not None}
    if labels and settings.objective != "signal":
        raise InputError(f"{min(labels)}: is a setting of --objective signal; add that, or leave it out")
    objective = methods.SignalAware(**labels) if settings.objective == "signal" else None
    if settings.objective == "kappa":
        objective = methods.LargestKappa()
    return {
        "budget": None if settings.budget is None else parse_budget(settings.budget),
        "objective": objective,
        "ridge": settings.ridge,
        "rotate": None if settings.rotate else False,
    }


def parse_budget(text: str) -> float | str:
    """A budget as it is written: a number, or "keep"; raises `InputError` for anything else."""
    if text == "keep":
        return text
    try:
        budget = float(text)
    except ValueError as error:
        raise InputError(f'budget: needs a number or "keep", got {text!r}') from error
    check_budget(budget)
    return budget


def check_count(value: int, argument: str) -> None:
    """Raises `InputError` unless the value is at least 1."""
    if value < 1:
        raise InputError(f"{argument}: needs at least 1, got {value}")


SCHEMA = 2
"""Layout of results.json; a folder with another one is not read."""


def manifest(command: Any, data: Any = None) -> dict[str, Any]:
    """How a result was made: the command, its settings, the versions of what computed it, and what it was computed from.

    Args:
      command: the dataclass that the command line was read into.
      data: the tasks, of which checksums are taken.
    """
    packages = ("cimm_jax", "jax", "jaxlib", "optax", "numpy")
    return {
        "schema": SCHEMA,
        "command": type(command).__name__.lower(),
        "settings": {key: _as_json(value) for key, value in asdict(command).items()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "data_sha256": checksums(data),
    }


def _as_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_as_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


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
