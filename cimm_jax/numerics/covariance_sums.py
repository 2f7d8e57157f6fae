"""Covariances X^T X of rows that come in parts, perhaps on several machines: what was summed can be added to, and merged.

Everything is in float64 on the host, whatever JAX is set to and whatever the rows are: a sum over 1e9 rows of float32 is as
exact as one over a thousand.
"""

from typing import Any

import jax
import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.numerics.host_products import ROWS_AT_ONCE, add_products, mirrored, sum_of_squares, zeros
from cimm_jax.numerics.inputs import is_concrete
from cimm_jax.tasks import as_floating

__all__ = ["CovarianceSum"]


class CovarianceSum:
    """K = sum of x^T x over all rows so far, uncentred, of shape (d, d), in float64.

    The rows of [x, y, 1] have x^T x, the cross-covariance x^T y and the sums of columns in one.

    >>> import numpy as np
    >>> total = CovarianceSum(2)
    >>> total.update(np.array([[1.0, 2.0], [0.0, 1.0]]))
    >>> total.merged(total).value(), total.rows
    (array([[ 2.,  4.],
           [ 4., 10.]]), 2)

    Args:
      features: d.

    Attributes:
      rows: how many rows there were.
    """

    def __init__(self, features: int):
        if features < 1:
            raise InputError(f"features: needs at least 1, got {features}")
        self.rows = 0
        self._upper = zeros((features, features), np.dtype(np.float64))

    @classmethod
    def of(cls, value: Any, rows: int, name: str = "value") -> "CovarianceSum":
        """A sum that was made elsewhere.

        Args:
          value: x^T x, shape (d, d).
          rows: how many rows it is of.
          name: what messages call the value.

        Raises:
          InputError: if it is no symmetric matrix of finite numbers with none below zero on its diagonal, or rows is negative.
        """
        given = np.asarray(as_floating(value, name), np.float64)
        if given.ndim != 2 or given.shape[0] != given.shape[1] or not given.size:
            raise InputError(f"{name}: needs shape (d, d), got {given.shape}; give x^T x")
        if not np.isfinite(given).all() or (given != given.T).any() or (given.diagonal() < 0).any():
            raise InputError(
                f"{name}: is no sum of x^T x: that is finite, symmetric, and nowhere negative on its diagonal"
            )
        if rows < 0:
            raise InputError(f"rows: needs at least 0, got {rows}")
        found = cls(len(given))
        found._upper += given
        found.rows = rows
        return found

    @property
    def features(self) -> int:
        """The number of features d."""
        return len(self._upper)

    def update(self, x: Any, name: str = "x") -> None:
        """Adds rows, which are looked at twice; if they are refused, the sum is what it was.

        Rows of float32, float16, bfloat16 and whole numbers are converted to float64 a few thousand at a time and multiplied in
        that: the sum is off by some 1e-15 of its largest entry, where one of products in float32 is by 1e-7.

        Args:
          x: shape (N, d), as NumPy reads it; mapped files, and arrays of JAX, which are brought to the host.
          name: what messages call it.

        Raises:
          InputError: if x is traced or partly on another machine, is no matrix of d columns of finite real numbers, or has
            squares beyond float64.
        """
        if isinstance(x, jax.Array) and not is_concrete(x):
            raise InputError(f"{name}: is traced, or partly on another machine; use streamed_covariance")
        rows = np.asarray(as_floating(x, name))
        if rows.ndim != 2 or rows.shape[1] != self.features:
            raise InputError(
                f"{name}: needs shape (rows, {self.features}), got {rows.shape}; the sum has so many features"
            )
        self._check_finite(rows, name)
        add_products(self._upper, rows)
        self.rows += len(rows)

    def merged(self, other: "CovarianceSum") -> "CovarianceSum":
        """The sum over the rows of both, which stay as they are; raises `InputError` if they have different features."""
        if not isinstance(other, CovarianceSum):
            raise InputError(f"other: needs a CovarianceSum, got {type(other).__name__}; CovarianceSum.of makes one")
        if other.features != self.features:
            raise InputError(f"other: has {other.features} features and this sum {self.features}; make them equal")
        both = CovarianceSum(self.features)
        np.add(self._upper, other._upper, out=both._upper)
        both.rows = self.rows + other.rows
        return both

    def value(self) -> np.ndarray:
        """K = X^T X, shape (d, d), float64, exactly symmetric; a copy."""
        found = zeros(self._upper.shape, self._upper.dtype)
        found[:] = self._upper
        return mirrored(found)

    def _check_finite(self, rows: np.ndarray, name: str) -> None:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            if np.isfinite(sum_of_squares(part)):
                continue
            if not np.isfinite(part).all():
                raise InputError(f"{name}: has NaN or infinite entries; remove or impute them first")
            if not np.isfinite(sum_of_squares(part.astype(np.float64))):
                raise InputError(
                    f"{name}: has numbers whose squares float64 cannot hold; divide the rows by a power of two"
                )
