import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attacks.attacked import make_target, run_one
from attacks.heads.on_digits import FITTED, at_rates, digits_target, scaled_digits, squared
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import KernelCenterer
from sklearn.svm import SVC

from cimm_jax import InputError
from cimm_jax.attacks.adaptive import HEAVIEST_EXPONENT, RIDGES
from cimm_jax.attacks.heads import kernel_ridge

WIDTHS = (5.0, 20.0)


@pytest.fixture(scope="module")
def exact():
    return at_rates(kernel_ridge(centres=FITTED), digits_target(), WIDTHS)


@pytest.fixture(scope="module")
def nystrom():
    """With two keys, a third of the rows as centres."""
    keys = jax.random.split(jax.random.key(0), 2)
    return at_rates(kernel_ridge(centres=FITTED // 3), digits_target(), WIDTHS, keys)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_exact_kernel_is_scikit_learns_with_the_ridge_that_leaving_out_prefers(exact, width):
    x, y, heldout_x, heldout_y = scaled_digits()
    gamma = 1 / (width * x.shape[1])
    kernel, heldout = rbf_kernel(x, x, gamma), rbf_kernel(heldout_x, x, gamma)
    centerer = KernelCenterer().fit(kernel)
    kernel, heldout, mean = centerer.transform(kernel), centerer.transform(heldout), y.mean(0)

    def left_out_error(ridge):
        hat = kernel @ np.linalg.inv(kernel + ridge * np.eye(len(x))) + 1 / len(x)
        return np.sum(((y - hat @ y) / (1 - np.diag(hat))[:, None]) ** 2)

    relative = np.logspace(2 * np.log10(np.finfo(float).eps), HEAVIEST_EXPONENT, RIDGES)
    ridges = relative[relative > 1e-8] * np.linalg.norm(kernel, 2)
    model = KernelRidge(alpha=min(ridges, key=left_out_error), kernel="precomputed").fit(kernel, y - mean)
    assert ridges[0] < model.alpha < ridges[-1]
    scores = mean + model.predict(heldout)
    at = WIDTHS.index(width)
    np.testing.assert_allclose(exact.heldout_loss[at], squared(scores, heldout_y), rtol=1e-6)
    assert exact.accuracy[at, 0, 0] == np.mean(scores.argmax(1) == heldout_y.argmax(1))


def test_it_is_as_good_as_a_support_vector_machine(exact):
    x, y, heldout_x, heldout_y = scaled_digits()
    machine = SVC(C=10).fit(x, y.argmax(1))
    assert exact.accuracy.max() > machine.score(heldout_x, heldout_y.argmax(1)) - 0.01


def test_some_centres_nearly_do_and_the_key_draws_them(exact, nystrom):
    np.testing.assert_allclose(nystrom.accuracy[..., -1], np.broadcast_to(exact.accuracy[..., -1], (2, 2)), atol=0.04)
    assert (nystrom.heldout_loss > exact.heldout_loss).all()
    assert (nystrom.heldout_loss[:, 0] != nystrom.heldout_loss[:, 1]).all()


def test_it_draws_a_row_once(rng):
    x, heldout = rng.standard_normal((2, 30, 3))
    target = make_target(x, np.sign(x[:, 0] * x[:, 1]), (heldout, np.sign(heldout[:, 0] * heldout[:, 1])))
    every, all_but_one = (run_one(kernel_ridge(centres=centres), target, rate=0.05) for centres in (30, 29))
    np.testing.assert_allclose(all_but_one.heldout_loss, every.heldout_loss, rtol=0.02)
    assert (all_but_one.heldout_loss != every.heldout_loss).all()


def test_single_precision_will_do_for_a_wide_kernel_and_equal_rows():
    target = digits_target()
    twice = target._replace(fit=jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), target.fit))
    rough = jax.tree.map(lambda leaf: leaf.astype(np.float32), twice)
    attack, widths = kernel_ridge(centres=2 * FITTED // 3), (30.0, 3000.0)
    found, finer = (at_rates(attack, seen, widths).heldout_loss[:, 0, 0] for seen in (rough, twice))
    np.testing.assert_allclose(found[0], finer[0], rtol=0.03)
    np.testing.assert_allclose(found[1], finer[1], rtol=0.2)


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match=r"^centres: .*0"):
        kernel_ridge(centres=0)
