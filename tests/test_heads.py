"""The head absorbs the map: primary outputs stay what they were."""

import jax.numpy as jnp
import numpy as np
import prescribed
import pytest
from pairs import D, make_pair

from cimm_jax import InputError, methods
from cimm_jax.closed_form.heads import absorb
from cimm_jax.methods._pencil import solve


@pytest.mark.parametrize("columns", [None, 1, 5])
def test_outputs_behind_the_closed_form_are_unchanged(rng, columns):
    theta = solve(make_pair(), objective=methods.SignalAware()).theta
    head = jnp.asarray(rng.standard_normal(D if columns is None else (D, columns)))
    features = jnp.asarray(rng.standard_normal((50, D)))
    outputs = features @ theta @ absorb(theta, head)
    assert outputs.shape == (features @ head).shape
    error = np.linalg.norm(outputs - features @ head) / np.linalg.norm(features @ head)
    assert error < 1e-10


def test_an_ill_conditioned_map_within_reach_is_absorbed(rng):
    theta = prescribed.matrix(rng, prescribed.geometric(1e4, 30))
    head = rng.standard_normal((30, 3))
    residual = np.linalg.norm(theta @ np.asarray(absorb(theta, head)) - head) / np.linalg.norm(head)
    assert residual < 1e-10


def test_float32_keeps_its_dtype_and_its_own_tolerance(rng):
    theta = prescribed.matrix(rng, prescribed.geometric(100, 8)).astype(np.float32)
    head = rng.standard_normal(8).astype(np.float32)
    absorbed = absorb(theta, head)
    assert absorbed.dtype == np.float32
    assert np.linalg.norm(theta @ np.asarray(absorbed) - head) < 1e-3 * np.linalg.norm(head)


@pytest.mark.parametrize(
    ("theta", "head", "named"),
    [
        (np.ones((3, 2)), np.ones(3), "theta"),
        (np.eye(3), np.ones(2), "head"),
        (np.eye(3), np.ones((3, 1, 1)), "head"),
        (np.eye(3), np.ones(3, np.float32), "dtype"),
        (np.eye(3, dtype=int), np.ones(3, int), "dtype"),
        (np.diag([1.0, 1.0, 0.0]), np.ones(3), "singular"),
        (np.diag([1.0, 1.0, np.nan]), np.ones(3), "singular"),
    ],
)
def test_what_cannot_be_absorbed_is_an_error(theta, head, named):
    with pytest.raises(InputError, match=named):
        absorb(theta, head)


def test_too_close_to_singular_is_an_error_not_a_wrong_head(rng):
    theta = prescribed.matrix(rng, prescribed.geometric(1e15, 20))
    with pytest.raises(InputError, match="too close to singular"):
        absorb(theta, rng.standard_normal(20))
