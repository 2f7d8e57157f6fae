"""The largest and the smallest eigenvalue of large matrices without all the others, and how far off they may be.

Lanczos' recursion with full reorthogonalisation (matfree's) finds the largest eigenvalue of whatever can be multiplied by a
vector: of F^T F; of its inverse, which two triangular solves with the factor R of F = QR apply, and whose largest eigenvalue is
the reciprocal of the smallest; and, of a pencil, of R_H R_P^{-1} and its inverse. No square is formed, so that as many digits
are resolved as by the singular values of F. The work is that of a QR decomposition and some products, a third of all singular
values and less.

Bounds (Parlett, The Symmetric Eigenvalue Problem, 1998): for a unit vector v with r = A v - lambda v, some eigenvalue of A lies
within |r| of lambda = v^T A v; and within |r|^2 / gap (Kato and Temple), gap being the distance to the next one, which is taken
from the second Ritz value and its own residual. That there is none beyond is not proven but certain for all purposes: the start
is random, and a Krylov space that has converged would have had to be orthogonal to it (Kuczynski and Wozniakowski, 1992).
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matfree import decomp

from cimm_jax.errors import InputError
from cimm_jax.numerics.decompositions import eigh, solve_triangular, triangular_factor
from cimm_jax.numerics.inputs import as_matrix, is_concrete
from cimm_jax.numerics.scaling import normalised

__all__ = [
    "TOLERANCE",
    "Extreme",
    "Extremes",
    "Operator",
    "UnresolvedError",
    "feature_extremes",
    "operator_extremes",
    "pencil_extremes",
]

TOLERANCE = 1e-4
"""Bounds that are looked for, relative to an eigenvalue."""

LENGTHS = (32, 64, 128, 256)
"""Of Krylov spaces that are tried in turn, each begun with the best vector of the one before."""

Operator = Callable[..., jax.Array]
"""(v, *arguments) -> A v for a symmetric positive semi-definite A, shapes (d,); a pure function of JAX."""


class UnresolvedError(InputError):
    """A smallest eigenvalue that is not known: rounding decides it, or more products would be needed."""


class Extreme(NamedTuple):
    """An eigenvalue.

    Attributes:
      value: the eigenvalue.
      off: how far from it the true one may be.
      products: how many times the matrix, or its inverse, was applied.
    """

    value: float
    off: float
    products: int


class Extremes(NamedTuple):
    """Both ends of a spectrum.

    Attributes:
      largest: eigenvalue.
      smallest: eigenvalue; none is zero.
      rank: how many eigenvalues there are.
    """

    largest: Extreme
    smallest: Extreme
    rank: int

    @property
    def kappa(self) -> float:
        """The condition number."""
        return self.largest.value / self.smallest.value


def feature_extremes(f: Any, name: str = "f", *, tolerance: float = TOLERANCE) -> Extremes:
    """The largest and smallest non-zero eigenvalue of f^T f, which is not formed.

    Rows and columns of zeros are left out, and of the two Gram matrices the smaller one is meant: both have the same
    eigenvalues but for zeros. What is left must have full rank.

    Args:
      f: features, shape (N, d), as `inputs.as_array` takes them; not traced.
      name: what messages call them.
      tolerance: relative bounds to reach.

    Raises:
      InputError: if f is traced, no matrix of finite real numbers, or zero everywhere.
      UnresolvedError: if the smallest eigenvalue is what rounding makes of a zero, so that f may have any lower rank; or if the
        bounds were not reached within `LENGTHS`.
    """
    units = normalised(_concrete(f, name))
    r = _factor(_without_zeros(units.values, name), name)
    return _scaled(_extremes_of_factor(r, tolerance, name), 2 * int(units.exponent))


def pencil_extremes(x_harmful: Any, x_primary: Any, *, tolerance: float = TOLERANCE) -> Extremes:
    """The largest and smallest mu with K_H v = mu K_P v, of K = X^T X, which are not formed.

    They are the largest eigenvalue of M^T M, M = R_H R_P^{-1} with the triangular factors of both, and the reciprocal of that
    of the inverse of M: what the limits of `closed_form.limits` are made of where both tasks have full rank.

    Args:
      x_harmful: inputs, shape (N_H, d), N_H at least d, as `inputs.as_array` takes them; not traced.
      x_primary: inputs, shape (N_P, d), the same.
      tolerance: relative bounds to reach.

    Raises:
      InputError: if one is traced, no matrix of finite real numbers, or has fewer rows than features, or other features than
        the other.
      UnresolvedError: as `feature_extremes`, of either task.
    """
    given = {name: _concrete(x, name) for name, x in {"x_harmful": x_harmful, "x_primary": x_primary}.items()}
    harmful, primary = (x.shape[1] for x in given.values())
    if harmful != primary:
        raise InputError(f"x_harmful: has {harmful} features and x_primary {primary}; make them equal")
    dtype = np.promote_types(*(x.dtype for x in given.values()))
    factors, exponents, lost = [], [], []
    for name, x in given.items():
        if x.shape[0] < x.shape[1]:
            raise InputError(f"{name}: has {x.shape[0]} rows and {x.shape[1]} features; use limits.pair_limit")
        units = normalised(x.astype(dtype))
        factors.append(_factor(units.values, name))
        exponents.append(int(units.exponent))
        # Rounding in a factor, multiplied by the inverse of that factor.
        lost.append(8 * float(jnp.finfo(dtype).eps) * _extremes_of_factor(factors[-1], tolerance, name).kappa ** 0.5)
    found = (
        _largest(_relative_gram, tuple(factors), tolerance),
        _reciprocal(_largest(_relative_gram, tuple(factors[::-1]), tolerance)),
    )
    largest, smallest = (
        _reached(end, tolerance, "x_harmful")._replace(off=end.off + rounding * end.value)
        for end, rounding in zip(found, reversed(lost), strict=True)
    )
    return _scaled(Extremes(largest, smallest, harmful), 2 * (exponents[0] - exponents[1]))


def operator_extremes(
    apply: Operator,
    arguments: tuple[Any, ...],
    size: int,
    *,
    inverse: Operator | None = None,
    dtype: Any = None,
    tolerance: float = TOLERANCE,
) -> Extremes:
    """The largest and smallest eigenvalue of an operator, such as v -> X^T (X v): nothing of shape (d, d) is ever made.

    Without an inverse the smallest is looked for from above, as that of largest - A. That takes some sqrt(kappa) products, of
    which there are at most as many as `LENGTHS` have: enough up to a kappa of some hundreds, or where the smallest one stands
    apart.

    Args:
      apply: (v, *arguments) -> A v; the same function again compiles once.
      arguments: arrays that it needs.
      size: d.
      inverse: (v, *arguments) -> A^{-1} v.
      dtype: of v; None is JAX's usual one.
      tolerance: relative bounds to reach.

    Raises:
      InputError: if size is less than 1.
      UnresolvedError: if the smallest eigenvalue is not resolved; the message has what is known of it.

    >>> import jax.numpy as jnp
    >>> x = jnp.diag(jnp.array([3.0, 2.0, 1.0]))
    >>> extremes = operator_extremes(lambda v, x: x.T @ (x @ v), (x,), 3)
    >>> round(extremes.kappa, 4)
    9.0
    """
    if size < 1:
        raise InputError(f"size: needs at least 1, got {size}")
    start = _start(size, jnp.zeros(()).dtype if dtype is None else dtype)
    largest = _largest(apply, arguments, tolerance, start)
    rounding = size**0.5 * float(jnp.finfo(start.dtype).eps) * largest.value
    if inverse is not None:
        smallest = _reciprocal(_largest(inverse, arguments, tolerance, start))
    else:
        above = jnp.asarray(largest.value, start.dtype)
        found = _largest(_below(apply), (above, *arguments), tolerance, start, below=largest.value)
        smallest = Extreme(largest.value - found.value, found.off + rounding, found.products)
    _check_resolved(smallest, largest, 2 * rounding, "apply")
    return Extremes(_reached(largest, tolerance, "apply"), _reached(smallest, tolerance, "apply"), size)


def _gram(v: jax.Array, r: jax.Array) -> jax.Array:
    return (r @ v) @ r


def _inverse_gram(v: jax.Array, r: jax.Array) -> jax.Array:
    return solve_triangular(r, solve_triangular(r, v, transposed=True))


def _relative_gram(v: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """M^T M v with M = a b^{-1}."""
    return solve_triangular(b, _gram(solve_triangular(b, v), a), transposed=True)


@lru_cache(maxsize=64)
def _below(apply: Operator) -> Operator:
    """(v, above, *arguments) -> above v - A v; of one operator always the same function, which is compiled once."""
    return lambda v, above, *arguments: above * v - apply(v, *arguments)


class _Ritz(NamedTuple):
    """The largest Ritz pair of a Krylov space: value, unit vector, and how far off the value may be."""

    value: jax.Array
    vector: jax.Array
    off: jax.Array


@partial(jax.jit, static_argnames=("apply", "length"))
def _ritz(apply: Operator, arguments: tuple[Any, ...], start: jax.Array, length: int) -> _Ritz:
    with jax.default_matmul_precision("highest"):
        krylov = decomp.tridiag_sym(length, reortho="full", custom_vjp=False)(lambda v: apply(v, *arguments), start)
        # Once the space is exhausted the recursion divides zero by zero; what it had found until then stands.
        parts = (krylov.Q_tall, krylov.J_small, krylov.residual)
        basis, tridiagonal, rest = (jnp.nan_to_num(jnp.asarray(part)) for part in parts)
        unused = (basis == 0).all(1)
        values, vectors = eigh(tridiagonal - jnp.diag(jnp.where(unused, 1 + 2 * jnp.abs(tridiagonal).max(), 0)))
        vector = vectors[:, -1] @ basis
        vector = vector / jnp.linalg.norm(vector)
        image = apply(vector, *arguments)
        value = vector @ image
        residual = jnp.linalg.norm(image - value * vector)
    second = values[-2:][0] + jnp.linalg.norm(rest) * jnp.abs(vectors[-1, -2:][0])
    gap = value - second
    return _Ritz(value, vector, jnp.where(gap > residual, residual**2 / jnp.where(gap > residual, gap, 1), residual))


def _start(size: int, dtype: Any) -> jax.Array:
    return jax.random.normal(jax.random.key(0), (size,)).astype(dtype)


def _largest(
    apply: Operator,
    arguments: tuple[Any, ...],
    tolerance: float,
    start: jax.Array | None = None,
    *,
    below: float | None = None,
) -> Extreme:
    """The largest eigenvalue, in bounds relative to it, or to how far `below` is above it; NaN if something is not finite.

    The start is random, of the size and type of the first argument's rows, if none is given.
    """
    vector = _start(len(arguments[0]), arguments[0].dtype) if start is None else start
    size, products, value, off = len(vector), 0, float("nan"), float("inf")
    for length in LENGTHS:
        found = _ritz(apply, arguments, vector, min(length, size))
        vector, products = found.vector, products + min(length, size) + 1
        value = float(found.value)
        off = float(found.off) + 4 * float(jnp.finfo(vector.dtype).eps) * abs(value)
        wanted = tolerance * abs(value if below is None else below - value)
        if not np.isfinite(value) or size <= length or off <= wanted:
            break
    return Extreme(value, off, products)


def _reciprocal(found: Extreme) -> Extreme:
    """What it says of the smallest eigenvalue, if it is the largest of the inverse."""
    if not found.value > 0 or not np.isfinite(found.value):
        return Extreme(0.0, float("inf"), found.products)
    return Extreme(1 / found.value, 1 / found.value - 1 / (found.value + found.off), found.products)


def _extremes_of_factor(r: jax.Array, tolerance: float, name: str) -> Extremes:
    """Of r^T r, r upper triangular."""
    largest, inverse = (_largest(apply, (r,), tolerance) for apply in (_gram, _inverse_gram))
    smallest, eps = _reciprocal(inverse), float(jnp.finfo(r.dtype).eps)
    # Singular values of r are off by some eps of the largest one, whatever is done with it.
    rounding = 4 * eps * (smallest.value * largest.value) ** 0.5
    rounded = smallest._replace(off=smallest.off + rounding)
    _check_resolved(rounded, largest, 4 * len(r) * eps**2 * largest.value, name)
    _reached(smallest, tolerance, name)
    return Extremes(_reached(largest, tolerance, name), rounded, len(r))


def _check_resolved(smallest: Extreme, largest: Extreme, zero: float, name: str) -> None:
    """Raises `UnresolvedError` if the smallest eigenvalue may be a rounded zero, which is at most `zero`."""
    if smallest.value > zero and smallest.off < smallest.value:
        return
    bound = np.fmin(max(smallest.value, 0) + smallest.off, largest.value)  # the latter, if the former is NaN
    raise UnresolvedError(
        f"{name}: its smallest eigenvalue is not resolved, only that it lies between 0 and {bound:.3g}, and the largest at "
        f"{largest.value:.3g}; it may be a zero, and the rank any lower one: decompose the matrix, or add a ridge"
    )


def _reached(found: Extreme, tolerance: float, name: str) -> Extreme:
    """The eigenvalue; raises `UnresolvedError` unless it is known to ten times the tolerance, which rounding may use up."""
    if not found.off <= 10 * tolerance * found.value:
        raise UnresolvedError(
            f"{name}: an eigenvalue near {found.value:.6g} is off by up to {found.off:.1g} after {found.products} products; "
            "decompose the matrix, or allow a larger tolerance"
        )
    return found


def _scaled(extremes: Extremes, exponent: int) -> Extremes:
    """All eigenvalues times 2^exponent."""
    largest, smallest = (
        Extreme(float(np.ldexp(end.value, exponent)), float(np.ldexp(end.off, exponent)), end.products)
        for end in extremes[:2]
    )
    return Extremes(largest, smallest, extremes.rank)


def _factor(x: jax.Array, name: str) -> jax.Array:
    r = triangular_factor(x)
    if not jnp.isfinite(r).all():  # equal columns, which LAPACK shrinks to numbers that are none
        raise UnresolvedError(
            f"{name}: its smallest eigenvalue is not resolved, since columns are too much alike; decompose the matrix"
        )
    return r


def _concrete(x: Any, name: str) -> jax.Array:
    given = as_matrix(x, name)
    if not is_concrete(given):
        raise InputError(f"{name}: is traced; look for extremes outside of jit, or decompose the matrix")
    if given.ndim != 2:
        raise InputError(f"{name}: needs shape (rows, columns), got {given.shape}; give one matrix at a time")
    return given


def _without_zeros(x: jax.Array, name: str) -> jax.Array:
    """The rows and columns that are not zero, the longer side first."""
    held = np.asarray(x)
    rows, columns = held.any(1), held.any(0)
    if not rows.any():
        raise InputError(f"{name}: is zero everywhere, so it has no condition number; check how it was made")
    if not (rows.all() and columns.all()):
        x = jnp.asarray(held[rows][:, columns])
    return x if x.shape[0] >= x.shape[1] else x.T
