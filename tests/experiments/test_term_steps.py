"""Steps along one term: the recurrences are exact where the theory says so, and only there."""

import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest

from cimm_jax.numerics.preconditioning import preconditioned_gram
from cimm_jax.numerics.regularizers import ill_direction, r_ill, r_well, well_direction
from cimm_jax.numerics.spectra import feature_eigenpairs
from experiments.term_steps import LOSS, OWN, Extractor, alone_records, smallest_direction, term_records

ROWS, WIDTH = 12, 4
SIZES = {"well": 1e-3, "ill": 1e-2, LOSS: 1e-2}


@pytest.fixture(autouse=True)
def standard_promotion(standard_promotion_everywhere):
    return standard_promotion_everywhere


@pytest.fixture
def x(rng):
    """Inputs of both tasks, of prescribed singular values."""
    return {
        task: jnp.asarray(prescribed.orthonormal(rng, ROWS, WIDTH) * np.geomspace(2, 0.3, WIDTH))
        for task in ("primary", "harmful")
    }


def linear(x, slope, *, layered):
    return Extractor(lambda theta, task: x[task] @ theta, slope, None, SIZES, layered)


def preconditioned(x):
    """The terms as the paper has them, with K^{-1}."""

    def slope(theta, term):
        if term == LOSS:
            return theta
        direction = well_direction if term == "well" else ill_direction
        return direction(theta, feature_eigenpairs(x[OWN[term]] @ theta))

    return linear(x, slope, layered=False)


def layered(x):
    """The terms as networks are trained with them, with S^{-1} behind the features."""

    def value(theta, term):
        gram = preconditioned_gram(x[OWN[term]] @ theta)
        return r_well(gram) if term == "well" else r_ill(gram)

    slope = jax.jit(jax.grad(value), static_argnums=1)
    return linear(x, lambda theta, term: theta if term == LOSS else slope(theta, term), layered=True)


def own(records):
    return [(one[OWN[one["term"]]], one["predicted"], one["cosine"]) for one in records if "predicted" in one]


def test_with_the_preconditioner_every_step_is_as_predicted(x, rng):
    theta = jnp.asarray(prescribed.orthonormal(rng, WIDTH, WIDTH) * np.geomspace(1, 0.7, WIDTH))
    records = term_records(preconditioned(x), theta)
    for observed, predicted, cosine in own(records):
        assert observed == pytest.approx(predicted, rel=1e-7)
        assert cosine == pytest.approx(1)
    changes = {one["term"]: one[OWN[one["term"]]] for one in records if one["term"] in OWN and one["size"] == 1}
    assert changes["well"] < 0 < changes["ill"]
    for term in OWN:
        alone = alone_records(preconditioned(x), theta, term, steps=3, size=1.0)
        np.testing.assert_allclose(alone["observed"], alone["predicted"], rtol=1e-7)


def test_the_layer_of_networks_keeps_to_them_only_where_inputs_are_white(x, rng):
    theta = jnp.asarray(prescribed.orthonormal(rng, WIDTH, WIDTH) * np.geomspace(1, 0.7, WIDTH))
    white = {task: jnp.linalg.qr(of)[0] for task, of in x.items()}
    for observed, predicted, cosine in own(term_records(layered(white), theta)):
        assert observed == pytest.approx(predicted, rel=1e-6)
        assert cosine == pytest.approx(1)
    coloured = own(term_records(layered(x), theta))
    assert max(cosine for _, _, cosine in coloured) < 0.999
    assert any(abs(observed / predicted - 1) > 0.05 for observed, predicted, _ in coloured)


def test_the_smallest_direction_leaves_zeros_out(rng):
    axes = prescribed.orthonormal(rng, WIDTH, WIDTH)
    features = prescribed.orthonormal(rng, ROWS, WIDTH) * np.array([3.0, 2.0, 1.0, 0.0]) @ axes.T
    assert abs(np.asarray(smallest_direction(jnp.asarray(features))) @ axes[:, 2]) == pytest.approx(1)
