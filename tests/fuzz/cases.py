"""What is drawn: matrices of every kind, dtype and scale."""

from typing import NamedTuple

import ml_dtypes
import numpy as np
import prescribed
from hypothesis import strategies as st

SHAPES = [(3, 3), (2, 4)]
MORE_SHAPES = [*SHAPES, (5, 3), (1, 1), (1, 4), (4, 1), (2, 2), (6, 5)]

FLOATS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64}
DECADES = {"float16": (-5, 3), "bfloat16": (-36, 36), "float32": (-36, 36), "float64": (-300, 300)}
"""Scales that a dtype's numbers reach."""


class Case(NamedTuple):
    """A matrix as it is handed over, what it was made as, and how it is measured."""

    array: np.ndarray
    kind: str
    mode: str


@st.composite
def spectra(draw, size: int) -> np.ndarray:
    """Descending singular values from 1 down, of any rank from none to full, with ties, up to 22 decades apart."""
    rank = draw(st.integers(0, size))
    decades = draw(st.floats(0, 22))
    kind = draw(st.sampled_from(["geometric", "one small", "two values", "random"]))
    kept = {
        "geometric": lambda: np.geomspace(1, 10**-decades, rank),
        "one small": lambda: np.r_[np.ones(max(rank - 1, 0)), 10.0**-decades][:rank],
        "two values": lambda: np.where(np.arange(rank) < (rank + 1) // 2, 1.0, 10**-decades),
        "random": lambda: np.sort(10 ** -np.array(draw(st.lists(st.floats(0, decades), min_size=rank, max_size=rank))))[
            ::-1
        ],
    }[kind]()
    return np.r_[kept, np.zeros(size - rank)]


@st.composite
def matrices(draw, shapes=tuple(SHAPES), floats=tuple(FLOATS)):
    """A `Case`; the array may hold infinity where its dtype is too short for its scale."""
    rows, columns = draw(st.sampled_from(shapes))
    dtype = draw(st.sampled_from(floats))
    kind = draw(st.sampled_from(["dense", "diagonal", "whole", "zero rows", "small column"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = min(rows, columns)
    if kind == "whole":
        array = rng.integers(-3, 4, (rows, columns)).astype(float)
    elif kind == "small column":
        array = rng.integers(-20, 21, (rows, columns)) / 10
        array[:, draw(st.integers(0, columns - 1))] *= 10 ** -draw(st.floats(0, 12))
    elif kind == "diagonal":
        array = np.zeros((rows, columns))
        array[rng.permutation(rows)[:size], rng.permutation(columns)[:size]] = draw(spectra(size))
    else:
        array = prescribed.matrix(rng, draw(spectra(size)), (rows, columns))
        if kind == "zero rows":
            array[rng.random(rows) < 0.4] = 0
            array[:, rng.random(columns) < 0.3] = 0
    scale = 10.0 ** draw(st.integers(*DECADES[dtype])) * draw(st.floats(1, 9))
    with np.errstate(over="ignore", under="ignore"):
        array = (scale * array).astype(FLOATS[dtype])
    strange = draw(st.sampled_from([None] * 30 + [np.nan, np.inf]))
    if strange is not None:
        array[0, 0] = strange
    return Case(array, kind, draw(st.sampled_from(["jit"] * 6 + ["vmap"] * 5 + ["eager"])))


@st.composite
def whole_numbers(draw):
    """Pixels and other whole numbers of every width, booleans too, shape (rows, 3)."""
    dtype = draw(
        st.sampled_from([np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64, bool])
    )
    rows = draw(st.sampled_from([1, 7, 20]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if dtype is bool:
        return rng.random((rows, 3)) < 0.5
    info = np.iinfo(dtype)
    limit = draw(st.sampled_from([9, 1000, 10**7]))
    return rng.integers(max(info.min, -limit), min(info.max, limit), (rows, 3), dtype=dtype, endpoint=True)


@st.composite
def covariance_pairs(draw, size: int = 3):
    """Two positive definite covariances of moderate condition, a dtype, and powers of two that they are multiplied by."""
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    decades = 1.5 if dtype is np.float32 else 5.0
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spectra_ = [10 ** -rng.uniform(0, decades, size) for _ in range(2)]
    limit = np.finfo(dtype).maxexp - 30
    powers = [draw(st.integers(-limit, limit)) for _ in range(2)]
    return [prescribed.covariance(rng, spectrum).astype(dtype) for spectrum in spectra_], powers
