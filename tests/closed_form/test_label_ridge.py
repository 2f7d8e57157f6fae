"""The ridge of the best heads on rows left out."""

import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest

from cimm_jax.closed_form.label_ridge import choose_label_ridge
from cimm_jax.closed_form.ridge import CANDIDATES

choose = jax.jit(choose_label_ridge)


def centred(values):
    return values - values.mean(0)


@pytest.mark.parametrize("rows", [8, 30])
def test_it_is_the_best_of_fitting_every_time_without_one_row(rng, rows):
    x = rng.standard_normal((rows, 5)) * np.sqrt(prescribed.geometric(100, 5))
    y = np.column_stack([x[:, 0] + rng.standard_normal(rows), rng.standard_normal(rows)])
    sigma = np.linalg.svd(centred(x), compute_uv=False)
    errors = []
    for ridge in CANDIDATES:
        missed = 0.0
        for row in range(rows):
            kept = np.arange(rows) != row
            # The ridge of all rows, and the intercept of those kept.
            a, b = centred(x[kept]), centred(y[kept])
            w = np.linalg.solve(a.T @ a + ridge * np.sum(sigma**2) / 5 * np.eye(5), a.T @ b)
            missed += np.sum((y[row] - y[kept].mean(0) - (x[row] - x[kept].mean(0)) @ w) ** 2)
        errors.append(missed)
    assert float(choose(centred(x), centred(y))) == pytest.approx(CANDIDATES[int(np.argmin(errors))])


def test_noise_needs_more_than_signal(rng):
    x = centred(rng.standard_normal((40, 20)))
    signal = x @ rng.standard_normal((20, 2))
    assert choose(x, signal) < 1e-4
    assert choose(x, centred(rng.standard_normal((40, 2)))) > 0.1


def test_as_many_features_as_rows_and_constant_labels_are_no_division_by_zero(rng):
    x = centred(rng.standard_normal((10, 20)))
    assert np.isfinite(choose(x, centred(rng.standard_normal((10, 1)))))
    assert choose(x, jnp.zeros((10, 1))) == pytest.approx(CANDIDATES[0])


def test_in_float32_a_row_that_rounding_fits_does_not_count():
    rng = np.random.default_rng(1)
    x, y = centred(rng.standard_normal((10, 20))), centred(rng.standard_normal((10, 1)))
    chosen = float(choose(x, y))
    assert chosen > 1e-3
    assert float(choose(x.astype(np.float32), y.astype(np.float32))) == pytest.approx(chosen, rel=0.5)
