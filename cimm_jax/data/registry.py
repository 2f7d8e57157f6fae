"""Every data set by name. A new one is one file with a loader, and one line here."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cimm_jax import plugins
from cimm_jax.data.digit_images import DigitImages
from cimm_jax.data.digit_pairs import split_pair, split_task
from cimm_jax.data.digit_tasks import DigitTask, DigitVersus, parse_digit_task
from cimm_jax.data.digits import load_digits_8x8
from cimm_jax.data.house_prices import load_benign_houses, load_house_prices
from cimm_jax.data.mnist import load_mnist
from cimm_jax.errors import InputError
from cimm_jax.files import check_name
from cimm_jax.tasks import SplitPair, SplitTask

__all__ = [
    "DATA_SETS",
    "DEFAULT_HARMFUL",
    "DEFAULT_PRIMARY",
    "GROUP",
    "DataSet",
    "TaskNames",
    "data_names",
    "load_benign",
    "load_digit_images",
    "load_pair",
    "task_names",
]

DEFAULT_PRIMARY, DEFAULT_HARMFUL = "0v1", "2v3"


@dataclass(frozen=True)
class DataSet:
    """A data set: images of digits, of which pairs are made by name, or one fixed pair.

    Attributes:
      name: what people call it by.
      description: one line for people.
      digits: loads images of digits from a folder (or without one); None if the data set is a fixed pair.
      pair: loads the fixed pair; None if the data set is images of digits.
      benign: loads the fixed pair's benign third task; None if there is none.
      tasks: of a fixed pair, what people call its primary, its harmful and its benign task.
    """

    name: str
    description: str
    digits: Callable[[Path | None], DigitImages] | None = None
    pair: Callable[[Path | None], SplitPair] | None = None
    benign: Callable[[Path | None], SplitTask] | None = None
    tasks: tuple[str, str, str] | None = None


class TaskNames(NamedTuple):
    """What people call the tasks.

    Attributes:
      primary: the task to keep.
      harmful: the task to block.
      benign: a third task that nobody trained on; None if there is none.
    """

    primary: str
    harmful: str
    benign: str | None = None


DATA_SETS = (
    DataSet("digits", "scikit-learn's 8x8 digits, embedded", digits=load_digits_8x8),
    DataSet("mnist", "MNIST, from its IDX files or TensorFlow Datasets", digits=load_mnist),
    DataSet(
        "house_prices",
        "House Prices, split by zone, from CSV files or OpenML",
        pair=load_house_prices,
        benign=load_benign_houses,
        tasks=("lot area outside zone RL", "sale price in zone RL", "overall quality of other houses in zone RL"),
    ),
)


GROUP = "cimm_jax.data"
"""Entry points under which packages add data sets, each a `DataSet`."""


def data_names() -> tuple[str, ...]:
    """Every data set that can be asked for by name: those of the house, and of packages that are installed."""
    return tuple(dict.fromkeys((*(known.name for known in DATA_SETS), *plugins.names(GROUP))))


def load_pair(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    primary: str | None = None,
    harmful: str | None = None,
    rows: int | None = None,
) -> SplitPair:
    """One pair of tasks in a training and a held-out part, numpy float64.

    Args:
      name: one of `data_names`.
      data_dir: folder with the data set's files; None downloads what is not embedded.
      primary: primary digit task, as `parse_digit_task` reads it; default 0v1. Only for data sets of digits.
      harmful: harmful digit task; default 2v3.
      rows: training rows a side of each digit task, and as many held out where there are; None is all.

    Raises:
      InputError: if the name or a task is unknown, or the data cannot be had.
    """
    data_set = _data_set(name)
    if data_set.pair is not None:
        _check_absent(name, primary=primary, harmful=harmful, rows=rows)
        return data_set.pair(_folder(data_dir))
    tasks = _digit_tasks(primary, harmful)
    return split_pair(load_digit_images(name, data_dir=data_dir), *tasks, rows)


def load_benign(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    primary: str | None = None,
    harmful: str | None = None,
    benign: str | None = None,
    rows: int | None = None,
) -> SplitTask | None:
    """A benign task that neither side of a pair trains on, numpy float64; None if the data set has none left.

    Args:
      name: one of `data_names`.
      data_dir: as in `load_pair`.
      primary: as in `load_pair`.
      harmful: as in `load_pair`.
      benign: a digit task; None is one digit against another, the first two that neither side names.
      rows: as in `load_pair`.

    Raises:
      InputError: as `load_pair`, or if the benign task asked for shares a digit with the pair.
    """
    data_set = _data_set(name)
    if data_set.pair is not None:
        _check_absent(name, primary=primary, harmful=harmful, benign=benign, rows=rows)
        return None if data_set.benign is None else data_set.benign(_folder(data_dir))
    third = _benign_task(benign, _digit_tasks(primary, harmful))
    return None if third is None else split_task(load_digit_images(name, data_dir=data_dir), third, rows)


def task_names(
    name: str, *, primary: str | None = None, harmful: str | None = None, benign: str | None = None
) -> TaskNames:
    """What people call the tasks of a pair, the default ones filled in; arguments and errors as in `load_benign`."""
    data_set = _data_set(name)
    if data_set.pair is not None:
        _check_absent(name, primary=primary, harmful=harmful, benign=benign)
        return TaskNames(*(data_set.tasks or ("primary task", "harmful task", "benign task")))
    pair = _digit_tasks(primary, harmful)
    third = _benign_task(benign, pair)
    return TaskNames(pair[0].title, pair[1].title, None if third is None else third.title)


def load_digit_images(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> DigitImages:
    """The images of a data set of digits; raises `InputError` if it is unknown, has none, or cannot be had."""
    data_set = _data_set(name)
    if data_set.digits is None:
        known = ", ".join(known.name for known in DATA_SETS if known.digits is not None)
        raise InputError(f"data: {name} has no images of digits; choose one of {known}")
    return data_set.digits(_folder(data_dir))


def _digit_tasks(primary: str | None, harmful: str | None) -> tuple[DigitTask, DigitTask]:
    """Both tasks from their texts, or the default ones."""
    return (
        parse_digit_task(DEFAULT_PRIMARY if primary is None else primary, "primary"),
        parse_digit_task(DEFAULT_HARMFUL if harmful is None else harmful, "harmful"),
    )


def _benign_task(text: str | None, pair: tuple[DigitTask, DigitTask]) -> DigitTask | None:
    """The task asked for, or one digit against another of those that the pair leaves; None if it leaves fewer than two."""
    used = pair[0].digits() | pair[1].digits()
    free = sorted(set(range(10)) - used)
    if text is None:
        return DigitVersus(*free[:2]) if len(free) > 1 else None
    task = parse_digit_task(text, "benign")
    if task.digits() & used:
        raise InputError(f"benign: {text} has digits of the pair; choose among {', '.join(map(str, free))}")
    return task


def _check_absent(name: str, **digit_settings: object) -> None:
    for argument, value in digit_settings.items():
        if value is not None:
            raise InputError(f"{argument}: {name} is one fixed pair, got {value!r}; leave it out")


def _data_set(name: str) -> DataSet:
    for data_set in DATA_SETS:
        if data_set.name == name:
            return data_set
    added = plugins.find(GROUP, name, "data", files=False)
    if added is None:
        raise InputError(
            f"data: {name!r} is unknown; choose one of {', '.join(data_names())}, or for own features give --primary FILE "
            "--harmful FILE instead"
        )
    if not isinstance(added, DataSet):
        raise InputError(f"data: {name} needs to be a cimm_jax.data.DataSet, and is {type(added).__name__}")
    return added


def _folder(data_dir: str | os.PathLike[str] | None) -> Path | None:
    if data_dir is None:
        return None
    folder = Path(data_dir)
    check_name(folder, "--data-dir")
    if not os.path.isdir(folder):
        raise InputError(f"--data-dir: {folder} is not a folder; give the one that holds the data set's files")
    return folder
