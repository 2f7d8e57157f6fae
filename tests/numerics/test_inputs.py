"""What a person may hand over: one rule for every function that takes arrays."""

import subprocess
import sys
import textwrap
import warnings
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from cimm_jax import (
    InputError,
    Task,
    TaskPair,
    absorb,
    condition_number,
    covariance,
    definition_3_1,
    diagnose,
    extract,
    feature_condition_number,
    immunization_ratio,
    immunize,
    judge,
    log_condition_number,
    methods,
    pencil_limit,
    probe_hessian,
    r_ill,
    r_well,
    relative_immunization_ratio,
    streamed_covariance,
)
from cimm_jax.closed_form.limits import pair_limit, share_of_pair
from cimm_jax.closed_form.ridge import choose_ridge
from cimm_jax.closed_form.solution import solve
from cimm_jax.measures.bootstrap import bootstrap_ratio
from cimm_jax.measures.diagnosis import alignment
from cimm_jax.measures.excess import excess_curves
from cimm_jax.measures.groups import grouped_ratio
from cimm_jax.measures.proposition import proposition_3_2
from cimm_jax.numerics.convergence import excess_left
from cimm_jax.numerics.inputs import PrecisionWarning, as_array, as_matrix, as_pair, as_task
from cimm_jax.numerics.least_squares import probe_loss
from cimm_jax.numerics.preconditioning import preconditioner
from cimm_jax.tasks import SplitPair, as_floating, check_pair, check_task, stack_pairs

M = np.array([[4.0, 1.0], [1.0, 3.0], [2.0, 2.0]])

KINDS = {
    "a list": M.tolist(),
    "a tuple of tuples": tuple(map(tuple, M.tolist())),
    "a list of whole numbers": M.astype(int).tolist(),
    "a frame": pd.DataFrame(M),
    "a frame of nullable columns": pd.DataFrame(M).convert_dtypes(),
    "float16": M.astype(np.float16),
    "float32": M.astype(np.float32),
    "bfloat16": jnp.asarray(M, jnp.bfloat16),
    "bfloat16 of NumPy": np.asarray(jnp.asarray(M, jnp.bfloat16)),
    "float8": np.asarray(jnp.asarray(M, jnp.float8_e4m3fn)),
    "int8": M.astype(np.int8),
    "uint8 of JAX": jnp.asarray(M, jnp.uint8),
    "int64": M.astype(int),
    "extended precision": M.astype(np.longdouble),
    "the other byte order": M.astype(">f8"),
    "a matrix class": np.asmatrix(M),
    "unmasked": np.ma.array(M),
    "fractions": [[Fraction(int(entry)) for entry in row] for row in M],
}
kinds = pytest.mark.parametrize("given", KINDS.values(), ids=KINDS)


@kinds
def test_every_kind_of_numbers_is_the_same_array(given):
    array = as_array(given, "x")
    short = getattr(given, "dtype", np.dtype(float)).itemsize if isinstance(given, np.ndarray | jax.Array) else 8
    floating = isinstance(given, np.ndarray | jax.Array) and jnp.issubdtype(given.dtype, jnp.floating)
    assert isinstance(array, jax.Array)
    assert array.dtype == (jnp.float32 if floating and short <= 4 else jnp.float64)
    np.testing.assert_array_equal(array, M)


@kinds
def test_every_kind_has_the_condition_number_of_its_numbers(given):
    for measure, expected in (
        (feature_condition_number, np.linalg.cond(M) ** 2),
        (condition_number, np.linalg.cond(M)),
    ):
        assert float(measure(given).kappa) == pytest.approx(expected, rel=1e-5)
    assert float(r_well(given)) == pytest.approx(float(r_well(jnp.asarray(M))), rel=1e-5)


def test_what_jax_holds_already_is_not_copied():
    for dtype in (jnp.float32, jnp.float64):
        array = jnp.asarray(M, dtype)
        assert as_array(array, "x") is array
    assert isinstance(as_floating(M, "x"), np.ndarray), "NumPy data stay on the host until they are asked for"


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.uint8, jnp.int16])
def test_traced_numbers_are_converted_too(dtype):
    given = jnp.asarray(M, dtype)
    found = jax.jit(lambda x: feature_condition_number(x).kappa)(given)
    np.testing.assert_allclose(found, np.linalg.cond(M) ** 2, rtol=1e-5)
    if jnp.issubdtype(dtype, jnp.floating):
        gradient = jax.grad(lambda x: feature_condition_number(x).kappa)(given)
        assert gradient.dtype == dtype
        assert jnp.isfinite(gradient).all()


REFUSED = {
    "complex": (1j * M, "needs real numbers, got complex128"),
    "words": ([["a", "b"]], "needs real numbers, got <U1"),
    "dates": (np.array([["2020-01-01"]], "datetime64[D]"), "needs real numbers, got datetime64"),
    "nothing": (None, "needs an array of numbers, got NoneType"),
    "an object": ({}, "needs an array of numbers, got dict"),
    "rows of two lengths": ([[1, 2], [3]], "needs an array of numbers, got list"),
    "a word among numbers": (pd.DataFrame({"a": [1, "two"]}), "needs an array of numbers, got str among its entries"),
    "masked": (np.ma.array(M, mask=M > 3), "has masked entries"),
    "too large a number of Python's": ([[2**70, 1.0]], "has whole numbers beyond"),
    "far too large a number of Python's": ([[Fraction(10**400), 1.0]], "has numbers too large"),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: as_array(x, "x"), "x"),
        (condition_number, "s"),
        (feature_condition_number, "f"),
        (covariance, "x"),
        (lambda x: streamed_covariance([M, x]), r"batches\[1\]"),
        (r_well, "s"),
        (r_ill, "s"),
        (lambda x: pencil_limit(np.eye(2), x), "k_harmful"),
        (lambda x: excess_left(x, [1.0], (1,)), "features"),
        (lambda x: excess_left(M, x, (1,)), "targets"),
        (lambda x: probe_hessian(x, np.eye(2)), "theta"),
        (lambda x: absorb(np.eye(2), x), "head"),
        (lambda x: extract(x, PAIR), "theta"),
        (lambda x: extract(np.eye(2), PAIR._replace(harmful=Task(x))), r"pair\.harmful\.x"),
        (preconditioner, "k"),
        (lambda x: check_pair(PAIR._replace(primary=Task(x))), r"pair\.primary\.x"),
        (lambda x: stack_pairs([PAIR._replace(primary=Task(x))]), r"pairs\[0\]\.primary\.x"),
    ],
)
def test_anything_else_is_one_line_that_names_the_argument(function, name, given, message):
    with pytest.raises(InputError, match=rf"^{name}: {message}") as raised:
        function(given)
    assert "\n" not in str(raised.value)


def test_whole_numbers_that_a_float_would_round_are_refused():
    with pytest.raises(InputError, match=r"^s: has whole numbers beyond 9007199254740992, which float64 would round"):
        condition_number(np.array([[2**60 + 1, 1]]))
    with pytest.raises(InputError, match=r"^s: needs a floating-point dtype, got int64, which float64 may round"):
        jax.jit(condition_number)(np.array([[3, 1]]))


def test_missing_entries_are_refused():
    with pytest.raises(InputError, match=r"^f: needs an array of numbers, got NAType among its entries"):
        feature_condition_number(pd.DataFrame({"a": [1, None], "b": [2, 3]}, dtype="Int64"))
    with pytest.raises(InputError, match=r"^f: has NaN"):
        feature_condition_number(pd.DataFrame({"a": [1, None], "b": [2, 3]}))


def test_empty_arrays_are_named():
    for given in (np.ones((0, 2)), np.ones((2, 0)), np.ones((0, 2, 2)), np.ones((0, 0))):
        with pytest.raises(InputError, match=r"^f: has no entries"):
            feature_condition_number(given)
        with pytest.raises(InputError, match=r"^f: has no entries"):
            jax.jit(feature_condition_number)(given)
    with pytest.raises(InputError, match=r"^f: needs shape \(\.\.\., rows, columns\), got \(0,\)"):
        feature_condition_number([])
    with pytest.raises(InputError, match=r"^pair\.primary\.x: needs at least 2 rows"):
        check_pair(TaskPair(Task(np.ones((0, 2))), Task(M)))
    with pytest.raises(InputError, match=r"^pair\.primary\.y: needs shape"):
        check_pair(TaskPair(Task(M, []), Task(M)))


def test_a_matrix_of_nan_is_refused_unless_nan_may_stay():
    with pytest.raises(InputError, match=r"^s: has NaN or infinite entries"):
        as_matrix([[np.nan]], "s")
    assert np.isnan(as_matrix([[np.nan]], "s", finite=False)).all()


# --- tasks ---

Y = np.array([1.0, -1.0, 1.0])
PAIR = TaskPair(Task(M, Y), Task(M[::-1] + 0.5, Y))


def kind_of_pair(convert):
    return TaskPair(*(Task(convert(task.x), convert(task.y)) for task in PAIR))


PAIRS = {
    "lists": kind_of_pair(lambda array: array.tolist()),
    "tuples": TaskPair(*(Task(tuple(map(tuple, task.x)), tuple(task.y)) for task in PAIR)),
    "frames and series": TaskPair(*(Task(pd.DataFrame(task.x), pd.Series(task.y)) for task in PAIR)),
    "float16": kind_of_pair(lambda array: array.astype(np.float16)),
    "bfloat16": kind_of_pair(lambda array: jnp.asarray(array, jnp.bfloat16)),
    "float16 features and float64 targets": TaskPair(*(Task(task.x.astype(np.float16), task.y) for task in PAIR)),
    "one task in float32": PAIR._replace(primary=Task(PAIR.primary.x.astype(np.float32), PAIR.primary.y)),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_a_pair_of_any_kind_is_measured_and_immunized(pair, standard_promotion):
    theta = np.array([[1.0, 0.5], [0.0, 2.0]])
    expected = relative_immunization_ratio(theta, PAIR)
    np.testing.assert_allclose(relative_immunization_ratio(theta.tolist(), pair).rir, expected.rir, rtol=1e-3)
    checked = check_pair(pair, needs_labels=True)
    for leaf, same in zip(jax.tree.leaves(checked), jax.tree.leaves(PAIR), strict=True):
        np.testing.assert_array_equal(leaf, same)
    converted = as_pair(pair)
    assert len({leaf.dtype for leaf in jax.tree.leaves(converted)}) == 1
    np.testing.assert_allclose(pair_limit(pair).log_rir, pair_limit(PAIR).log_rir, atol=1e-3)
    np.testing.assert_allclose(
        judge(extract(theta, pair)).loss_before, judge(extract(theta, PAIR)).loss_before, rtol=1e-3
    )
    assert immunize(methods.pencil(rotate=False, ridge=0.1), pair).theta.shape == (2, 2)


def test_targets_take_the_dtype_of_the_inputs():
    task = as_task(Task(M.astype(np.float16), Y), "task")
    assert task.x.dtype == task.y.dtype == jnp.float32


def test_what_is_no_task_or_pair_is_said_to_be_none():
    with pytest.raises(InputError, match=r"^task: needs a Task of inputs and targets, got tuple"):
        check_task((M, Y), "task")
    with pytest.raises(InputError, match=r"^pair: needs a TaskPair of two tasks, got SplitPair"):
        check_pair(SplitPair(PAIR, PAIR))


def test_lists_stack_as_arrays_do():
    stacked = stack_pairs([PAIRS["lists"]] * 2)
    assert np.shape(stacked.primary.x) == (2, 3, 2)
    np.testing.assert_array_equal(stacked.harmful.x[1], PAIR.harmful.x)


# --- float64 in, float32 in force ---

THETA = np.array([[1.0, 0.5], [0.0, 2.0]])
ROWS = TaskPair(*(Task(np.tile(task.x, (8, 1)) + np.arange(24)[:, None] % 5, np.tile(task.y, 8)) for task in PAIR))
CALLS = {
    "condition_number": lambda: condition_number(M),
    "feature_condition_number": lambda: feature_condition_number(M),
    "log_condition_number": lambda: log_condition_number(M),
    "covariance": lambda: covariance(M),
    "streamed_covariance": lambda: streamed_covariance([M, M]),
    "probe_hessian": lambda: probe_hessian(THETA, THETA.T @ THETA),
    "r_ill": lambda: r_ill(M),
    "r_well": lambda: r_well(M),
    "pencil_limit": lambda: pencil_limit(np.eye(2), THETA.T @ THETA),
    "pair_limit": lambda: pair_limit(ROWS),
    "share_of_pair": lambda: share_of_pair(THETA, ROWS),
    "choose_ridge": lambda: choose_ridge(ROWS.primary.x),
    "solve": lambda: solve(ROWS),
    "absorb": lambda: absorb(THETA, np.ones(2)),
    "preconditioner": lambda: preconditioner(THETA.T @ THETA),
    "excess_left": lambda: excess_left(M, Y, (1, 2)),
    "probe_loss": lambda: probe_loss(PAIR.primary, PAIR.primary),
    "proposition_3_2": lambda: proposition_3_2(THETA, np.eye(2)),
    "extract": lambda: extract(THETA, ROWS),
    "relative_immunization_ratio": lambda: relative_immunization_ratio(THETA, ROWS),
    "immunization_ratio": lambda: immunization_ratio(made_elsewhere()),
    "judge": lambda: judge(made_elsewhere()),
    "definition_3_1": lambda: definition_3_1(made_elsewhere()),
    "excess_curves": lambda: excess_curves(made_elsewhere(), 3),
    "bootstrap_ratio": lambda: bootstrap_ratio(jax.random.key(0), made_elsewhere(), resamples=20),
    "grouped_ratio": lambda: grouped_ratio(made_elsewhere(), jax.random.key(0), groups=1, rows=5),
    "alignment": lambda: alignment(ROWS),
    "diagnose": lambda: diagnose(ROWS),
    "immunize": lambda: immunize(methods.algorithm1(), ROWS, steps=1),
}


def made_elsewhere():
    """An extraction of features that no function of the package has seen yet."""
    from cimm_jax.measures.extraction import Extraction

    return Extraction(ROWS, TaskPair(*(Task(task.x @ THETA, task.y) for task in ROWS)))


@pytest.mark.parametrize("name", CALLS)
def test_float64_in_float32_is_warned_about_once_at_the_caller_s_line(name, standard_promotion):
    with jax.enable_x64(False), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default", PrecisionWarning)
        for _ in range(2):
            CALLS[name]()
    (warning,) = caught
    assert issubclass(warning.category, PrecisionWarning)
    assert warning.filename == __file__
    assert "jax.enable_x64(True)" in str(warning.message)


def test_each_line_that_calls_is_told():
    with jax.enable_x64(False), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default", PrecisionWarning)
        condition_number(M)
        condition_number(M)
    assert len({warning.lineno for warning in caught}) == len(caught) == 2


def test_nothing_is_said_of_float32_of_whole_numbers_or_of_traced_ones():
    with jax.enable_x64(False):
        for given in (M.astype(np.float32), jnp.asarray(M, jnp.float32), M.astype(np.uint8), M.astype(np.float16)):
            assert condition_number(given).kappa.dtype == jnp.float32
        assert jax.jit(condition_number)(M).kappa.dtype == jnp.float32
    assert condition_number(M).kappa.dtype == jnp.float64


def test_what_float32_lacks_is_refused_rather_than_infinite_or_zero():
    with jax.enable_x64(False):
        for given in ([[1e300, 1.0]], [[1e-300, 0.0]]):
            with pytest.raises(InputError, match=r"^s: has numbers out of the range of float32; use jax\.enable_x64"):
                condition_number(given)
        with pytest.warns(PrecisionWarning):
            covariance([[2**24 + 1, 1]])


def test_the_issue_s_ratio_comes_with_a_warning_in_a_process_of_its_own():
    program = """
        import warnings
        import numpy as np
        from cimm_jax import Task, TaskPair, relative_immunization_ratio
        rng = np.random.default_rng(0)
        x = [rng.standard_normal((50, 6)) * np.geomspace(1, kappa, 6) for kappa in (1e5, 1e-5)]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            relative_immunization_ratio(np.diag(np.geomspace(1, 1e4, 6)), TaskPair(*map(Task, x)))
        print([w.category.__name__ for w in caught])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['PrecisionWarning']"
