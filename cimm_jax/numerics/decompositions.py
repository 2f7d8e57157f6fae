"""eigh, svd and qr that are safe to use more than once in a batched program on CPU.

XLA's CPU backend splits a batch of LAPACK calls over the same thread pool that runs the call itself, and waits. Two such
batches that are independent of each other, in one compiled program, can occupy every thread of the pool while both wait
for a free one: the program hangs for ever (seen with jaxlib 0.10.2; the fewer cores, the sooner). A vmapped method that
decomposes a primary and a harmful Hessian is exactly such a program.

So on CPU a batch is decomposed one matrix after another, which never waits; independent batches still run side by side.
Elsewhere the batched kernels are used. `vmap` adds to the batch instead of reaching into the loop.

Matrices that are sharded over explicit axes of a mesh are copied to every device first, which all of these need whole.

A second trap: the QR step that begins the decomposition of a tall matrix shrinks every further copy of a column by another
factor of eps. Data with some twenty equal columns (the border pixels of MNIST; six in float32) reach subnormal numbers, and
LAPACK then returns NaN for finite input. So the columns of a tall matrix are mixed by a fixed orthogonal matrix first, which
leaves the singular values as they are.

A third: of a matrix with an infinite entry LAPACK's SVD may never return. A matrix that is not finite is not decomposed; all
of its factors are NaN.

A fourth: divide and conquer, LAPACK's quick SVD, now and then does not converge for a finite matrix (one pair of 90 on MNIST,
whose kappa was 1e16; the same matrix with another last bit was fine), and JAX then returns NaN. QR iteration does.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax.linalg import SvdAlgorithm
from jax.lax.linalg import svd as svd_primitive

from cimm_jax.errors import InputError
from cimm_jax.numerics.meshes import on_every_device
from cimm_jax.numerics.products import product

__all__ = [
    "eigh",
    "gram_factor",
    "mix_columns",
    "qr",
    "right_svd",
    "singular_values",
    "solve_triangular",
    "svd",
    "symmetric_singular_values",
    "triangular_factor",
]


def _unbatched_on_cpu(decompose: Callable) -> Callable:
    """Makes a function of one matrix (m, n) into one of a batch (..., m, n) that loops on CPU, under `vmap` too."""

    def decompose_finite(s: jax.Array):
        finite = jnp.isfinite(s).all((-2, -1))

        def unless_strange(part: jax.Array, otherwise: float) -> jax.Array:
            return jnp.where(jnp.expand_dims(finite, tuple(range(finite.ndim, part.ndim))), part, otherwise)

        factors = decompose(unless_strange(s, 0))
        return jax.tree.map(lambda factor: unless_strange(factor, jnp.nan), factors)

    def loop(s: jax.Array):
        batch = s.shape[:-2]
        if not batch:
            return decompose_finite(s)
        parts = jax.lax.map(decompose_finite, s.reshape(-1, *s.shape[-2:]))
        return jax.tree.map(lambda part: part.reshape(*batch, *part.shape[1:]), parts)

    @jax.custom_batching.custom_vmap
    def batched(s: jax.Array):
        return jax.lax.platform_dependent(on_every_device(s), cpu=loop, default=decompose_finite)

    @batched.def_vmap
    def _(axis_size, in_batched, s):
        del axis_size, in_batched  # there is one argument, so it is the batched one, along its leading axis
        outputs = batched(s)
        return outputs, jax.tree.map(lambda _: True, outputs)

    return batched


def _mixing(size: int, dtype) -> jax.Array:
    """A fixed dense orthogonal matrix, shape (size, size): random signs, then the discrete cosine transform."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size)
    index = np.arange(size)
    cosines = np.cos(np.pi / size * np.outer(index + 0.5, index)) * np.sqrt(2 / size)
    cosines[:, 0] /= np.sqrt(2)
    return jnp.asarray(signs[:, None] * cosines, dtype)


def mix_columns(s: jax.Array) -> jax.Array:
    """The matrices (..., m, n) times a fixed orthogonal one: the same singular values, and no two columns alike."""
    return product(s, _mixing(s.shape[-1], s.dtype))


def _quick_svd(s: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return tuple(jnp.linalg.svd(s, full_matrices=False))


def _converged_svd(s: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Thin SVD of a finite matrix (m, n); on CPU by QR iteration where divide and conquer fails."""

    def checked(s: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        quick = _quick_svd(s)
        return jax.lax.cond(
            jnp.isfinite(quick[1]).all(),
            lambda: quick,
            lambda: tuple(svd_primitive(s, full_matrices=False, algorithm=SvdAlgorithm.QR)),
        )

    return jax.lax.platform_dependent(s, cpu=checked, default=_quick_svd)


def _mixed_svd(s: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    rows, columns = s.shape[-2:]
    if rows < columns:
        v, sigma, ut = _mixed_svd(s.mT)
        return ut.mT, sigma, v.mT
    if rows == columns:
        return _converged_svd(s)
    u, sigma, vt = _converged_svd(mix_columns(s))
    return u, sigma, product(vt, _mixing(columns, s.dtype).T)


def _mixed_singular_values(s: jax.Array) -> jax.Array:
    rows, columns = s.shape[-2:]
    if rows != columns:
        s = mix_columns(s if rows > columns else s.mT)
    return jnp.linalg.svd(s, compute_uv=False)


def _mixed_right_svd(s: jax.Array) -> tuple[jax.Array, jax.Array]:
    rows, columns = s.shape[-2:]
    if rows <= columns:
        _, sigma, vt = _mixed_svd(s)
        return sigma, vt
    # The left factor of a tall matrix is the larger part of the work, and nobody asked for it.
    _, sigma, vt = _converged_svd(jnp.linalg.qr(mix_columns(s), mode="r"))
    return sigma, product(vt, _mixing(columns, s.dtype).T)


_svd = _unbatched_on_cpu(_mixed_svd)
_right_svd = _unbatched_on_cpu(_mixed_right_svd)
_singular_values = _unbatched_on_cpu(_mixed_singular_values)
_eigh = _unbatched_on_cpu(lambda s: tuple(jnp.linalg.eigh(s)))
_qr = _unbatched_on_cpu(lambda s: tuple(jnp.linalg.qr(s)))
_gram_factor = _unbatched_on_cpu(
    lambda s: product(jnp.linalg.qr(mix_columns(s), mode="r"), _mixing(s.shape[-1], s.dtype).T)
)
_triangular = _unbatched_on_cpu(lambda s: jnp.linalg.qr(s, mode="r"))


@jax.custom_jvp
def svd(s: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Thin singular value decomposition (U, sigma descending, V^T), shapes (..., m, p), (..., p), (..., p, n).

    Differentiable. With W = U^T dS V, d sigma = diag(W), and singular vectors turn towards each other by angles that have the
    differences of their singular values as denominators. Where two are equal, and where one is zero, single vectors have no
    derivative: that part is left out, rather than infinite.
    """
    return _svd(s)


@svd.defjvp
def _svd_jvp(primals, tangents):
    u, sigma, vt = factors = _svd(primals[0])
    return factors, _svd_derivative(u, sigma, vt, tangents[0])


@jax.custom_jvp
def right_svd(s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Singular values and right singular vectors (sigma descending, V^T), shapes (..., p), (..., p, n): `svd` without U.

    Differentiable as `svd` is.
    """
    return _right_svd(s)


@right_svd.defjvp
def _right_svd_jvp(primals, tangents):
    sigma, vt = _right_svd(primals[0])
    u = product(primals[0], vt.mT) * _inverse(sigma)[..., None, :]
    _, dsigma, dvt = _svd_derivative(u, sigma, vt, tangents[0])
    return (sigma, vt), (dsigma, dvt)


@jax.custom_jvp
def eigh(s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues ascending, shape (..., d), and eigenvectors in columns, of symmetric matrices (..., d, d).

    d lambda = diag(V^T dS V) and dV = V (gaps * V^T dS V) with gaps_ij = 1 / (lambda_j - lambda_i), zero on the diagonal and,
    rather than infinite, between eigenvalues that are equal: there single eigenvectors have no derivative.
    """
    return _eigh(s)


@eigh.defjvp
def _eigh_jvp(primals, tangents):
    values, vectors = _eigh(primals[0])
    ds = (tangents[0] + tangents[0].mT) / 2
    rotated = product(product(vectors.mT, ds), vectors)
    gaps = _inverse(values[..., None, :] - values[..., :, None])
    return (values, vectors), (rotated.diagonal(axis1=-2, axis2=-1), product(vectors, gaps * rotated))


@jax.custom_jvp
def qr(s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Thin QR decomposition, shapes (..., m, p) and (..., p, n); raises `InputError` where it is differentiated."""
    return _qr(s)


@qr.defjvp
def _qr_jvp(primals, tangents):
    raise InputError(
        "qr: has no derivative; differentiate svd or singular_values, as of Route.SVD, or use stop_gradient"
    )


@jax.jit
def triangular_factor(s: jax.Array) -> jax.Array:
    """Upper triangular R of shape (..., n, n), R^T R = S^T S, of (..., m, n), m at least n; NaN of many equal columns."""
    return _triangular(s)


def solve_triangular(r: jax.Array, v: jax.Array, *, transposed: bool = False) -> jax.Array:
    """r^{-1} v, or r^{-T} v, for an upper triangular r of shape (n, n) and v of shape (n,); not finite if r is singular."""
    return jax.scipy.linalg.solve_triangular(r, v, trans=int(transposed), lower=False)


def gram_factor(s: jax.Array) -> jax.Array:
    """F of shape (..., n, n) with F^T F = S^T S, of tall matrices (..., m, n); as exact as S, whose square is not formed.

    Raises:
      InputError: if a matrix has fewer rows than columns.
    """
    if s.shape[-2] < s.shape[-1]:
        raise InputError(f"s: needs at least as many rows as columns, got shape {tuple(s.shape)}")
    return _gram_factor(s)


@jax.custom_jvp
def singular_values(s: jax.Array) -> jax.Array:
    """Singular values in descending order, shape (..., min(m, n)).

    The derivative d sigma_i = u_i^T dS v_i has no gap in a denominator: finite for repeated and zero values.
    """
    return _singular_values(s)


@singular_values.defjvp
def _singular_values_jvp(primals, tangents):
    u, sigma, vt = _svd(primals[0])
    return sigma, product(product(u.mT, tangents[0]), vt.mT).diagonal(axis1=-2, axis2=-1)


@jax.custom_jvp
def symmetric_singular_values(s: jax.Array) -> jax.Array:
    """Singular values in descending order, shape (..., d), of symmetric matrices (..., d, d): the sizes of their eigenvalues.

    `eigh` takes half the time of `svd`. The derivative of an eigenvalue, v_i^T dS v_i, has no gap in a denominator.
    """
    return _by_size(_eigh(s)[0])[0]


@symmetric_singular_values.defjvp
def _symmetric_singular_values_jvp(primals, tangents):
    values, vectors = _eigh(primals[0])
    sigma, order = _by_size(values)
    moved = (product(tangents[0], vectors) * vectors).sum(-2) * jnp.sign(values)
    return sigma, jnp.take_along_axis(moved, order, -1)


def _by_size(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sizes of eigenvalues, the largest first, and where each of them was."""
    order = jnp.argsort(-jnp.abs(values), axis=-1)
    return jnp.take_along_axis(jnp.abs(values), order, -1), order


def _svd_derivative(
    u: jax.Array, sigma: jax.Array, vt: jax.Array, ds: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """How the factors of s change with ds; shapes as of the factors."""
    v = vt.mT
    inner = product(product(u.mT, ds), v)
    # (W_ij sigma_j + W_ji sigma_i) / (sigma_j^2 - sigma_i^2) and its mirror image, without a square that may underflow.
    apart = (inner + inner.mT) * _inverse(sigma[..., None, :] - sigma[..., :, None]) / 2
    together = (inner - inner.mT) * _inverse(sigma[..., None, :] + sigma[..., :, None]) / 2
    # And out of the spaces that thin factors span; zero for the square one.
    weights = _inverse(sigma)[..., None, :]
    du = product(u, apart + together) + (product(ds, v) - product(u, inner)) * weights
    dv = product(v, apart - together) + (product(ds.mT, u) - product(v, inner.mT)) * weights
    return du, inner.diagonal(axis1=-2, axis2=-1), dv.mT


def _inverse(values: jax.Array) -> jax.Array:
    """1 / values, and 0 where they are zero."""
    present = values != 0
    return jnp.where(present, 1 / jnp.where(present, values, 1), 0)
