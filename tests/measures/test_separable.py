"""What can be told apart: against signals that were put into known directions."""

import numpy as np
import pytest

from cimm_jax.measures.separable import separability
from cimm_jax.tasks import Task, TaskPair

ROWS, D = 600, 12


def task(rng, direction, *, curved=False):
    """Two classes along a direction, or told apart by the distance along it."""
    x = rng.standard_normal((ROWS, D))
    along = x[:, direction]
    y = np.where(np.abs(along) > 0.67, 1.0, -1.0) if curved else np.sign(along)
    x[:, direction] *= 2
    return Task(x, y)


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    return {"apart": task(rng, 0), "same": task(rng, 1), "curved": task(rng, 1, curved=True), "other": task(rng, 1)}


def test_signals_in_directions_of_their_own_can_go_for_nothing(drawn):
    found = separability(TaskPair(drawn["apart"], drawn["other"]))
    assert found.rows == ROWS // 2
    assert found.linear > 0.5
    assert found.linear_left < 0.05
    assert found.shared < 0.05


def test_signals_in_one_direction_have_one_price(drawn):
    found = separability(TaskPair(drawn["same"], drawn["other"]))
    assert found.linear_left < 0.05
    assert found.shared > 0.9


def test_what_no_linear_head_sees_stays(drawn):
    found = separability(TaskPair(drawn["apart"], drawn["curved"]))
    assert found.linear < 0.05
    assert found.kernel > 0.1
    assert found.kernel_left > 0.5 * found.kernel


def test_targets_may_have_columns(drawn):
    pair = TaskPair(drawn["apart"], drawn["other"])
    columns = TaskPair(*(Task(one.x, np.stack([one.y, -one.y], 1)) for one in pair))
    assert separability(columns).linear == pytest.approx(separability(pair).linear, rel=1e-6)
