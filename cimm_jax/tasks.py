"""Tasks and pairs of tasks: what every immunization method, metric and attacker is given; and which arrays they may hold.

`Task` and `TaskPair` are pytrees of arrays, so `jit`, `vmap` and sharding compose from outside; a leading axis on every
leaf makes a stack of tasks (`stack_pairs`). Nothing is validated on construction, since traced values pass through
here: `check_pair` is called by the functions that a person calls, before anything is traced. It returns the pair with
its arrays as `as_floating` makes them.
"""

import numbers
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from cimm_jax.class_targets import of_whole_numbers
from cimm_jax.errors import InputError

__all__ = [
    "Array",
    "SplitPair",
    "SplitTask",
    "Task",
    "TaskPair",
    "as_floating",
    "as_numbers",
    "as_targets",
    "check_pair",
    "check_task",
    "join_tasks",
    "stack_pairs",
]

Array = Any
"""A JAX or a NumPy array, or a tracer of one."""


class Task(NamedTuple):
    """A supervised task on raw inputs.

    Attributes:
      x: inputs, shape (N, d), floating point.
      y: targets, shape (N,) or (N, C): -1 and +1 for a two-class task, any real number for regression, for many classes
        `cimm_jax.one_hot(labels)`. Whole numbers 0, 1, ... and booleans are taken for classes, as many as the highest
        says; give amounts that are whole as floats. None where only the covariance is known: methods that train a
        primary head then refuse the task.
    """

    x: Array
    y: Array = None


class TaskPair(NamedTuple):
    """The primary task, which must stay easy, and the harmful one, which must become hard. Both have the same d."""

    primary: Task
    harmful: Task


class SplitTask(NamedTuple):
    """One task in two parts."""

    train: Task
    heldout: Task


class SplitPair(NamedTuple):
    """One pair in two parts: what a method may look at, and what only the measurement sees."""

    train: TaskPair
    heldout: TaskPair

    def task(self, name: str) -> SplitTask:
        """One side, "primary" or "harmful", in both parts."""
        return SplitTask(*(getattr(part, name) for part in self))


def as_numbers(value: Any, name: str) -> Array:
    """The value as an array of real numbers: an array of JAX or a tracer as it is, anything else as NumPy reads it.

    So lists and tuples of numbers, frames and series of pandas, and tensors of other libraries on the host will do.

    Raises:
      InputError: if it holds anything but real numbers, or no rectangle of them, or masked entries.
    """
    if np.ma.is_masked(value):
        raise InputError(f"{name}: has masked entries; fill them, or leave their rows out")
    if isinstance(value, jax.Array):
        array = value
    else:
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            kind = type(value).__name__
            raise InputError(f"{name}: needs an array of numbers, got {kind} that NumPy cannot read as one") from error
    if isinstance(array, np.ndarray) and array.dtype == object:
        return _unboxed(array, name)
    if array.dtype != bool and not _is(array, jnp.floating) and not _is(array, jnp.integer):
        raise InputError(f"{name}: needs real numbers, got {array.dtype}; convert it to a floating-point dtype")
    return array


def as_floating(value: Any, name: str) -> Array:
    """The value as float32 or float64, nothing rounded; of JAX if it was, a tracer too, of NumPy on the host if it was not.

    float16, bfloat16 and what is shorter become float32. Booleans and whole numbers become float64, of JAX its widest float.

    Raises:
      InputError: as `as_numbers`, and for whole numbers that the floating-point type does not hold exactly; of tracers the
        integer type decides.
    """
    array = as_numbers(value, name)
    if not _is(array, jnp.floating):
        return _from_whole_numbers(array, name)
    if isinstance(array, jax.Array):
        return array.astype(jnp.float32) if array.dtype.itemsize < 4 else array
    with np.errstate(over="ignore"):  # NumPy also has extended precision, the other byte order, and classes of its own
        return np.asarray(array, np.float32 if array.dtype.itemsize <= 4 else np.float64)


def as_targets(value: Any, name: str, dtype: Any) -> Array:
    """Targets as numbers; whole ones are classes (`class_targets.of_whole_numbers`), coded in a floating-point dtype.

    Raises:
      InputError: as `as_numbers`, or for whole numbers that are no classes; traced ones are not known to be.
    """
    array = as_numbers(value, name)
    if _is(array, jnp.floating):
        return array
    if isinstance(array, Tracer):
        raise InputError(f"{name}: holds {array.dtype} under jit; give cimm_jax.one_hot(y) for classes, or floats")
    return of_whole_numbers(np.asarray(array), name).astype(dtype)


def check_task(task: Task, name: str, *, needs_labels: bool = False) -> Task:
    """The task with its arrays as `as_floating` makes them, if it is usable.

    Args:
      task: concrete (not traced) inputs and targets.
      name: what the caller's argument is called, for the message.
      needs_labels: whether a method will train on the targets.

    Raises:
      InputError: unless inputs are 2-D, floating point, finite and not all zero, of at least two rows, with targets that match.
    """
    if not isinstance(task, Task):
        raise InputError(f"{name}: needs a Task of inputs and targets, got {type(task).__name__}; give Task(x, y)")
    x = _finite(task.x, f"{name}.x")
    if x.ndim != 2:
        raise InputError(f"{name}.x: needs shape (rows, features), got {x.shape}; flatten each input to one row")
    rows, features = x.shape
    if rows < 2 or features < 1:
        raise InputError(f"{name}.x: needs at least 2 rows and 1 feature, got shape {x.shape}; give more data")
    if not _found(lambda xp, values: xp.any(values), x):
        raise InputError(f"{name}.x: is zero everywhere, so it has no condition number; check how it was loaded")
    if task.y is None:
        if needs_labels:
            raise InputError(f"{name}.y: is None, but the method trains on it; give targets of shape ({rows},)")
        return Task(x)
    y = _finite(as_targets(task.y, f"{name}.y", x.dtype), f"{name}.y")
    if y.ndim not in (1, 2) or y.shape[0] != rows:
        raise InputError(f"{name}.y: needs shape ({rows},) or ({rows}, C), got {y.shape}; match it to x")
    # A published head may have classes that none of these rows is of.
    if y.ndim == 2 and (classes := _found(lambda xp, of: (of != of[:1]).any(0).sum(), y)) > rows:
        raise InputError(f"{name}.y: has {classes} classes and only {rows} rows; give more data, or fewer classes")
    return Task(x, y)


def check_pair(pair: TaskPair, name: str = "pair", *, needs_labels: bool = False) -> TaskPair:
    """The pair with its arrays as `as_floating` makes them; both tasks must be usable and share the number of features.

    Args:
      pair: concrete (not traced) arrays.
      name: what the caller's argument is called, for the message.
      needs_labels: whether a method will train on the targets of both tasks.

    Raises:
      InputError: as `check_task`, or if the tasks differ in the number of features.
    """
    if not isinstance(pair, TaskPair):
        raise InputError(
            f"{name}: needs a TaskPair of two tasks, got {type(pair).__name__}; give TaskPair(primary, harmful)"
        )
    checked = TaskPair(
        *(check_task(task, f"{name}.{side}", needs_labels=needs_labels) for side, task in pair._asdict().items())
    )
    d_primary, d_harmful = checked.primary.x.shape[1], checked.harmful.x.shape[1]
    if d_primary != d_harmful:
        raise InputError(
            f"{name}.harmful.x: has {d_harmful} features and {name}.primary.x has {d_primary}; "
            "one extractor serves both tasks, so make them equal"
        )
    return checked


def stack_pairs(pairs: Sequence[TaskPair]) -> TaskPair:
    """Stacks equally shaped pairs along a new leading axis, for `vmap`; raises `InputError` if the shapes differ."""
    if not pairs:
        raise InputError("pairs: is empty; give at least one pair")
    read = [
        TaskPair(*(_read(task, f"pairs[{number}].{side}") for side, task in pair._asdict().items()))
        for number, pair in enumerate(pairs)
    ]
    shapes = {tuple(np.shape(leaf) for leaf in jax.tree.leaves(pair)) for pair in read}
    if len(shapes) > 1:
        raise InputError(f"pairs: have {len(shapes)} different shapes; give every task the same number of rows")
    return jax.tree.map(_stack, *read)


def join_tasks(tasks: Sequence[Task], name: str = "harmful") -> Task:
    """Several tasks on the same features as one: rows below each other, targets side by side, zero on the others' rows.

    With s_i and t_i that give all tasks the same energy of inputs and of centred targets, so that none counts for more because
    it has more rows,

        x^T x = sum_i s_i^2 x_i^T x_i,     Cov(x, y) = [s_i t_i x_i^T (y_i - mean y_i)]_i / N.

    So a method that takes one harmful task takes a list: `erase` removes the span of all label directions, and `pencil` looks
    at the sum of the normalised Hessians. Which task a row is of is no target.

    Args:
      tasks: concrete, each of shape (N_i, d) and (N_i,) or (N_i, C_i), all with targets or all without.
      name: what messages call the list.

    Returns:
      NumPy arrays of shape (sum N_i, d) and (sum N_i, sum C_i); a single task as it is.

    Raises:
      InputError: as `check_task`, if there is none, features differ in number, one comes twice, some lack targets, or the
        targets of one of several are the same in every row.
    """
    if not tasks:
        raise InputError(f"{name}: is empty; give at least one task")
    read = [check_task(task, f"{name}[{number}]") for number, task in enumerate(tasks)]
    if len(read) == 1:
        return read[0]
    arrays = [Task(*(None if leaf is None else np.asarray(leaf) for leaf in task)) for task in read]
    _check_can_be_joined(arrays, name)
    x = np.concatenate(_of_equal_energy([task.x for task in arrays]))
    if arrays[0].y is None:
        return Task(x)
    targets = [task.y.reshape(len(task.y), -1) for task in arrays]
    scaled = _of_equal_energy([y - y.mean(0) for y in targets])
    firsts = np.cumsum([0, *(y.shape[1] for y in scaled)])
    wide = [
        np.pad(y, ((0, 0), (first, firsts[-1] - first - y.shape[1]))) for first, y in zip(firsts, scaled, strict=False)
    ]
    return Task(x, np.concatenate(wide))


def _check_can_be_joined(tasks: Sequence[Task], name: str) -> None:
    for number, task in enumerate(tasks):
        first = tasks[0]
        if task.x.shape[1] != first.x.shape[1]:
            raise InputError(
                f"{name}[{number}].x: has {task.x.shape[1]} features and {name}[0].x has {first.x.shape[1]}; make them equal"
            )
        if (task.y is None) != (first.y is None):
            raise InputError(f"{name}: some tasks have targets and some have none; give all of them targets, or none")
        if task.y is not None and (task.y == task.y[:1]).all():
            raise InputError(f"{name}[{number}].y: is the same in every row, of one class only; leave that task out")
        for before, other in enumerate(tasks[:number]):
            if np.array_equal(task.x, other.x) and (task.y is None or np.array_equal(task.y, other.y)):
                raise InputError(f"{name}: task {number} is the same as task {before}; give each task once")


def _of_equal_energy(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays, each with the mean of their sums of squares."""
    norms = np.array([np.linalg.norm(array) for array in arrays])
    wanted = np.sqrt(np.mean(norms**2))
    return [array * (wanted / norm) for array, norm in zip(arrays, norms, strict=True)]


def _read(task: Task, name: str) -> Task:
    return Task(as_numbers(task.x, f"{name}.x"), None if task.y is None else as_numbers(task.y, f"{name}.y"))


def _stack(*leaves):
    # NumPy data stay on the host, in float64 whatever JAX is set to.
    return np.stack(leaves) if all(isinstance(leaf, np.ndarray) for leaf in leaves) else jnp.stack(leaves)


def _is(array: Array, kind: Any) -> bool:
    return jnp.issubdtype(array.dtype, kind)


def _finite(value: Any, name: str) -> Array:
    """A concrete value as floating-point numbers that are all finite."""
    array = as_numbers(value, name)
    if not _is(array, jnp.floating):
        raise InputError(f"{name}: needs a floating-point dtype, got {array.dtype}; convert it with .astype(float)")
    array = as_floating(array, name)
    bad = int(array.size - _found(lambda xp, values: xp.isfinite(values).sum(), array))
    if bad:
        raise InputError(f"{name}: has {bad} NaN or infinite values; remove or impute them first")
    return array


def _found(what: Callable[[Any, Array], Array], array: Array) -> np.ndarray:
    """What a function of NumPy, or of its namesake in JAX, makes of an array; where it is, if it is spread over devices."""
    if isinstance(array, jax.Array) and len(array.sharding.device_set) > 1:
        return np.asarray(jax.jit(partial(what, jnp))(array))
    return np.asarray(what(np, np.asarray(array)))


def _unboxed(array: np.ndarray, name: str) -> np.ndarray:
    """An array of Python's numbers as float64."""
    entries = array.ravel()
    strange = [entry for entry in entries if not isinstance(entry, numbers.Real)]
    if strange:
        raise InputError(
            f"{name}: needs an array of numbers, got {type(strange[0]).__name__} among its entries; "
            "give numbers only, and rows of one length"
        )
    if any(isinstance(entry, numbers.Integral) and abs(int(entry)) > 2**53 for entry in entries):
        raise InputError(
            f"{name}: has whole numbers beyond 2^53, which float64 would round; convert it to floats yourself"
        )
    try:
        return array.astype(np.float64)
    except OverflowError as error:
        raise InputError(f"{name}: has numbers too large for float64") from error


def _from_whole_numbers(array: Array, name: str) -> Array:
    """Booleans and whole numbers as the widest float there is, on the host or of JAX; refused where it would round them."""
    wide = np.dtype(np.float64)
    dtype = wide if isinstance(array, np.ndarray) else jax.dtypes.canonicalize_dtype(wide)
    limit = 2 ** (jnp.finfo(dtype).nmant + 1)
    if array.dtype != bool and jnp.iinfo(array.dtype).max > limit and array.size:
        if isinstance(array, Tracer):
            raise InputError(
                f"{name}: needs a floating-point dtype, got {array.dtype}, which {dtype} may round; convert it"
            )
        host = np.asarray(array)
        if host.max() > limit or host.min() < -limit:
            raise InputError(
                f"{name}: has whole numbers beyond {limit}, which {dtype} would round; convert it to floats yourself"
            )
    return array.astype(dtype)
