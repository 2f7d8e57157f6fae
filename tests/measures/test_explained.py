"""What heads explain before and after: nothing more behind an eraser, as much behind a map that only slows."""

import numpy as np
import pytest
from closed_form.labelled import class_task

from cimm_jax import Task, TaskPair, extract, immunize, methods
from cimm_jax.measures.explained import MOST_ROWS, explained_labels


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    return TaskPair(class_task(rng), class_task(rng))


def test_an_eraser_leaves_linear_heads_nothing_and_the_identity_leaves_all(pair):
    erased = explained_labels(extract(immunize(methods.erase(), pair).theta, pair))
    same = explained_labels(extract(np.eye(pair.harmful.x.shape[1]), pair))
    assert same.linear.immunized == pytest.approx(same.linear.undefended, abs=1e-9)
    assert same.linear.undefended > 0.5
    assert erased.linear.undefended == pytest.approx(same.linear.undefended)
    assert erased.linear.immunized < 0.02
    assert erased.kernel.immunized < erased.kernel.undefended
    assert erased.rows == len(pair.harmful.x)


def test_of_many_rows_some_are_looked_at_and_one_column_will_do():
    rng = np.random.default_rng(1)
    many = class_task(rng, rows=3 * MOST_ROWS)
    found = explained_labels(extract(np.eye(8), TaskPair(many, Task(many.x, many.y[:, 0]))))
    assert found.rows == MOST_ROWS
    assert found.linear.undefended > 0.3


def test_without_labels_that_tell_rows_apart_there_is_nothing_to_explain(pair):
    for y in (None, np.ones(len(pair.harmful.x))):
        assert explained_labels(extract(np.eye(8), TaskPair(pair.primary, Task(pair.harmful.x, y)))) is None
