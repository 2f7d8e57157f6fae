"""What a run shows to experiment trackers, for those who ask for one by name: TensorBoard, and Weights & Biases."""

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cimm_jax.errors import InputError
from cimm_jax.runs.codec import encode
from cimm_jax.runs.records import ImmunizeRecord

__all__ = ["TRACKERS", "check_trackers", "track"]

FOLDER = "tensorboard"
"""In a run folder, what TensorBoard is pointed at."""


def _to_tensorboard(library: Any, folder: Path, record: ImmunizeRecord) -> None:
    with library.SummaryWriter(str(folder / FOLDER)) as writer:
        for name, value, step in _scalars(record):
            writer.add_scalar(name, value, step)


def _to_wandb(library: Any, folder: Path, record: ImmunizeRecord) -> None:
    with library.init(project="cimm_jax", name=folder.name, dir=str(folder), config=encode(record.manifest)) as run:
        # Steps of a tracker only go forwards, and condition numbers are looked at on another course than the loss.
        for name, value, step in sorted(_scalars(record), key=lambda scalar: scalar[2]):
            run.log({name: value}, step=step)


TRACKERS: dict[str, tuple[str, Callable[[Any, Path, ImmunizeRecord], None]]] = {
    "tensorboard": ("tensorboardX", _to_tensorboard),
    "wandb": ("wandb", _to_wandb),
}
"""By the name that people ask for: the library, and what shows a record to it."""


def check_trackers(names: Sequence[str]) -> None:
    """Raises `InputError` if the library of one is not installed; imports nothing."""
    for name in names:
        library, _ = TRACKERS[name]
        if importlib.util.find_spec(library) is None:
            raise InputError(f"track: {name} needs {library}, which is not installed; pip install 'cimm_jax[trackers]'")


def track(names: Sequence[str], folder: Path, record: ImmunizeRecord) -> None:
    """Shows a finished run: its loss and condition numbers step by step, and what was measured at its end.

    Args:
      names: of `TRACKERS`.
      folder: of the run.
      record: of it.
    """
    for name in names:
        library, show = TRACKERS[name]
        show(importlib.import_module(library), folder, record)


def _scalars(record: ImmunizeRecord) -> Iterator[tuple[str, float, int]]:
    """Names, values, and the steps that had been made."""
    last, history = 1, record.history
    if history is not None:
        last = len(history.loss)
        yield from (("loss", float(value), step) for step, value in enumerate(history.loss, 1))
        for task in ("primary", "harmful"):
            values = getattr(history, f"kappa_{task}")
            yield from (
                (f"kappa/{task}", float(value), round(float(step)))
                for step, value in zip(history.kappa_steps, values, strict=True)
            )
    for part, measures in record.measures.parts.items():
        for policy, ratio in measures.ratios.items():
            for name in ("harmful_ratio", "primary_ratio", "rir"):
                yield f"{part}/{policy}/{name}", float(getattr(ratio, name)), last
    for part, kept in (record.kept or {}).items():
        yield f"{part}/primary_accuracy", float(kept.accuracy_after), last
