import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest
from attacks.attacked import make_target

from cimm_jax import losses
from cimm_jax.attacks.problem import column_targets, make_problem


def hessian_at_zero(x, y, loss):
    w = jnp.zeros((x.shape[1], y.shape[1]))
    hessian = jax.jit(jax.hessian(lambda w: loss(x @ w, y)))(w)
    return np.asarray(hessian).reshape(w.size, w.size)


@pytest.mark.parametrize("loss", [losses.squared, losses.logistic, losses.softmax])
def test_the_curvature_bound_is_attained_at_zero(rng, loss):
    # Two classes: there the softmax bound is attained, too.
    x, y = rng.standard_normal((12, 3)), 2 * np.eye(2)[rng.integers(0, 2, 12)] - 1
    problem = make_problem(make_target(x, y), loss, rows=True, axes=True)
    values = np.linalg.eigvalsh(hessian_at_zero(problem.x, problem.y, loss))
    np.testing.assert_allclose(problem.largest, values[-1], rtol=1e-9)
    smallest = values[values > 1e-12][0]
    np.testing.assert_allclose(problem.smallest, smallest, rtol=1e-9)


@pytest.mark.parametrize("shape", [(12, 3), (4, 7), (3, 7)], ids=str)
@pytest.mark.parametrize(("rows", "axes"), [(True, True), (False, True), (False, False)])
def test_every_form_has_the_same_loss_gradient_and_best_probe(rng, shape, rows, axes):
    x, y = prescribed.matrix(rng, [3.0, 1.0, 0.0], shape), rng.standard_normal((shape[0], 2))
    target = make_target(x, y)
    problem = make_problem(target, losses.squared, rows=rows, axes=axes)
    assert len(problem.y) == (shape[0] if rows else min(shape))
    np.testing.assert_allclose(problem.probe(problem.best), np.linalg.lstsq(x, y)[0], atol=1e-12)
    np.testing.assert_array_equal(problem.start, np.zeros_like(problem.best))

    def loss(variable):
        return losses.squared(problem.scores(variable), problem.y) + problem.offset

    variable = jnp.asarray(rng.standard_normal(problem.start.shape))
    w = np.asarray(problem.probe(variable))
    np.testing.assert_allclose(loss(variable), np.mean((x @ w - y) ** 2) / 2, rtol=1e-12)
    gradient = problem.probe(jax.grad(loss)(variable))
    np.testing.assert_allclose(gradient, x.T @ (x @ w - y) / y.size, atol=1e-12)
    value, slope = problem.value_and_gradient(variable, losses.squared)
    assert (problem.normal is not None) == (
        axes and not rows and shape != (3, 7)
    )  # there it has more entries than twice X
    np.testing.assert_allclose(value, loss(variable), rtol=1e-12)
    np.testing.assert_allclose(problem.probe(slope), gradient, atol=1e-12)
    scores = rng.standard_normal(problem.y.shape)
    np.testing.assert_allclose(
        np.sum(scores * problem.scores(variable)), np.sum(problem.transposed(scores) * variable), rtol=1e-9
    )
    np.testing.assert_allclose([problem.largest, problem.smallest], np.array([9.0, 1.0]) / y.size, rtol=1e-9)


def test_targets_become_columns(rng):
    target = column_targets(make_target(rng.standard_normal((5, 2)), np.ones(5), (np.ones((4, 2)), np.ones(4))))
    assert (target.fit.y.shape, target.heldout.y.shape) == ((5, 1), (4, 1))
