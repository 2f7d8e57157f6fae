"""What methods add to the loss of trained blocks moves features the way it is meant to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cimm_jax import InputError, Task, TaskPair, condition_number, methods
from cimm_jax.numerics.regularizers import ill_coefficients, well_coefficients

ROWS, D, CLASSES = 12, 4, 3


@pytest.fixture
def batch(rng):
    primary, harmful = (jnp.asarray(rng.normal(size=(ROWS, D)) * np.geomspace(1, 3, D)) for _ in range(2))
    targets = jnp.asarray(2.0 * (np.arange(ROWS)[:, None] % CLASSES == np.arange(CLASSES)) - 1)
    return TaskPair(Task(primary), Task(harmful, targets))


def gradients(penalty, batch):
    """Of both tasks' features."""

    def value(primary, harmful):
        return penalty.value(TaskPair(Task(primary), Task(harmful, batch.harmful.y)))

    return jax.grad(value, argnums=(0, 1))(batch.primary.x, batch.harmful.x)


@pytest.mark.parametrize(
    ("number", "side", "coefficients"), [(0, "primary", well_coefficients), (1, "harmful", ill_coefficients)]
)
def test_the_identity_layer_leaves_coefficients_without_singular_values(batch, number, side, coefficients):
    """The gradient of either regularizer through the layer is F V diag(c_i) V^T, K cancelled."""
    got = dict(zip(TaskPair._fields, gradients(methods.algorithm1().penalties[number], batch), strict=True))
    u, sigma, vt = np.linalg.svd(np.asarray(getattr(batch, side).x), full_matrices=False)
    expected = (u * sigma * np.asarray(coefficients(jnp.asarray(sigma**2)))) @ vt
    np.testing.assert_allclose(got.pop(side), expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(*got.values(), 0)


def test_ill_only_is_the_harmful_half_of_algorithm1(batch):
    (alone,) = methods.ill_only().penalties
    for found, expected in zip(
        gradients(alone, batch), gradients(methods.algorithm1().penalties[1], batch), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["algorithm1", "ill_only", "opt_kappa", "imma"])
def test_a_step_down_each_moves_it_the_way_it_means(name, batch):
    for penalty in methods.BY_NAME[name]().penalties:
        before = penalty.value(batch)
        primary, harmful = gradients(penalty, batch)
        step = 1e-3 / max(1.0, float(jnp.abs(primary).max()), float(jnp.abs(harmful).max()))
        moved = TaskPair(
            Task(batch.primary.x - step * primary), batch.harmful._replace(x=batch.harmful.x - step * harmful)
        )
        assert penalty.value(moved) < before


def test_opt_kappa_is_about_the_condition_numbers(batch):
    easy, hard = methods.opt_kappa().penalties
    kappa = [float(condition_number(task.x.T @ task.x).kappa) for task in batch]
    assert float(easy.value(batch)) == pytest.approx(np.log(kappa[0]), rel=1e-8)
    assert float(hard.value(batch)) == pytest.approx(1 / np.log(kappa[1]), rel=1e-8)


def test_imma_s_is_minus_the_loss_that_a_probe_reaches(batch):
    """Ten steps of 1 / L from a zero probe on half the mean squared error, written out."""
    (penalty,) = methods.imma(lower_steps=10).penalties
    x, y = (np.asarray(leaf) for leaf in batch.harmful)
    probe, smoothness = np.zeros((D, CLASSES)), np.linalg.norm(x, 2) ** 2
    for _ in range(10):
        probe -= x.T @ (x @ probe - y) / smoothness
    assert float(penalty.value(batch)) == pytest.approx(-np.mean((x @ probe - y) ** 2) / 2, rel=1e-9)


def test_more_lower_steps_reach_less(batch):
    reached = [-float(methods.imma(lower_steps=steps).penalties[0].value(batch)) for steps in (1, 5, 50)]
    assert reached == sorted(reached, reverse=True)
    with pytest.raises(InputError, match="lower_steps"):
        methods.imma(lower_steps=0)
