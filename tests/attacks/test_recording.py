"""The start of an attack is judged; a compiler that gets it wrong must not end the attack."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from cimm_jax.attacks._recording import DIVERGED, record_steps
from cimm_jax.attacks.heads import head_operators
from cimm_jax.attacks.ladder.climb import Rows, try_features
from cimm_jax.attacks.protocol import Trace


def a_trace(loss):
    return Trace(loss, loss, jnp.zeros(()), jnp.full((), jnp.nan), jnp.zeros((), bool))


def recorded(start, at_zero, factor, records=(1, 3)):
    """The loss is the state, and each step multiplies it."""
    return record_steps(
        lambda state: (state * factor, state), a_trace, jnp.asarray(start), a_trace(jnp.asarray(at_zero)), records
    )


@pytest.mark.parametrize(("start", "at_zero"), [(1.0, 0.5), (0.5, 1.0)])
def test_the_limit_is_of_the_larger_of_the_first_probe_and_none(start, at_zero):
    almost, beyond = (DIVERGED * factor / start for factor in (0.99, 1.01))
    assert not recorded(start, at_zero, almost, (1,)).diverged.any()
    assert recorded(start, at_zero, beyond, (1,)).diverged.all()


def test_records_are_of_their_steps_and_none_of_the_start():
    np.testing.assert_allclose(recorded(8.0, 8.0, 0.5).loss, [4.0, 1.0])


def test_what_diverges_at_once_keeps_what_knowing_nothing_gets():
    trace = recorded(1.0, 2.0, 1e4)
    np.testing.assert_allclose(trace.loss, [2.0, 2.0])
    assert trace.diverged.all()


@pytest.mark.slow
def test_a_first_probe_of_zeros_has_a_loss_however_often_it_is_compiled(rng):
    """Some of these compilations went wrong as long as the start was judged outside the loop."""
    labels = np.arange(2000) % 100
    x = (rng.standard_normal((2000, 64)) + rng.standard_normal((100, 64))[labels]).astype(np.float32)
    rows = Rows(x, labels)
    for _ in range(60):  # operators made anew are compiled anew
        (operator,) = head_operators(("softmax regression",), classes=100, steps=100, record_at=(10, 30, 100))
        every_row = np.arange(2000)[None]
        runs = try_features(
            replace(operator, rates=(0.01,)), rows, rows, every_row, classes=100, seed=0, dtype=np.float32
        )
        assert not runs.diverged.any()
