"""Data sets: one loader a file, one registry. Loaders import their libraries when they are called."""

from cimm_jax.data._checksums import checksums
from cimm_jax.data.covariance_files import covariance_of_files, load_covariance_sum, save_covariance_sum
from cimm_jax.data.digit_images import DigitImages
from cimm_jax.data.digit_pairs import (
    DigitKind,
    digit_kind,
    ordered_pairs,
    split_pair,
    split_task,
    sweep_splits,
    sweep_tasks,
)
from cimm_jax.data.digit_tasks import (
    DigitTask,
    DigitVersus,
    DigitVersusRest,
    SingleDigit,
    is_digit_task,
    parse_digit_task,
)
from cimm_jax.data.registry import (
    DATA_SETS,
    DataSet,
    TaskNames,
    data_names,
    load_benign,
    load_digit_images,
    load_pair,
    task_names,
)

__all__ = [
    "DATA_SETS",
    "DataSet",
    "DigitImages",
    "DigitKind",
    "DigitTask",
    "DigitVersus",
    "DigitVersusRest",
    "SingleDigit",
    "TaskNames",
    "checksums",
    "covariance_of_files",
    "data_names",
    "digit_kind",
    "is_digit_task",
    "load_benign",
    "load_covariance_sum",
    "load_digit_images",
    "load_pair",
    "ordered_pairs",
    "parse_digit_task",
    "save_covariance_sum",
    "split_pair",
    "split_task",
    "sweep_splits",
    "sweep_tasks",
    "task_names",
]
