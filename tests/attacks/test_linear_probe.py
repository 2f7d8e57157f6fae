"""The linear probe against theorems on prescribed spectra, and against plain gradient descent in NumPy."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest
import scipy.special
from attacks.attacked import loss_of, make_target, run, run_one, share_left

from cimm_jax import InputError, attacks, losses
from cimm_jax.attacks import Schedule, linear_probe
from cimm_jax.numerics.convergence import excess_curve

STEPS = 12
EVERY = tuple(range(1, STEPS + 1))
KAPPA = 25.0
CONTRACTION = ((KAPPA - 1) / (KAPPA + 1)) ** 2


@cache
def probe(optimizer, **settings):
    """The same attack for the same settings, so that it is compiled once."""
    return linear_probe(optimizer, **{"steps": STEPS, "record_at": EVERY, **settings})


def spectral(rng, curvature, rows=15):
    """F of F^T F = the curvatures, and its left singular vectors, strongest first."""
    u = prescribed.orthonormal(rng, rows, len(curvature))
    return (u * np.sqrt(curvature)) @ prescribed.orthonormal(rng, len(curvature), len(curvature)).T, u


# Plain, unreduced.


def slope_squared(scores, y):
    return (scores - y) / y.size


def slope_logistic(scores, y):
    return (scipy.special.expit(scores) - (y + 1) / 2) / y.size


def slope_softmax(scores, y):
    return (scipy.special.softmax(scores, axis=1) - (y + 1) / 2) / len(y)


SLOPES = {losses.squared: slope_squared, losses.logistic: slope_logistic, losses.softmax: slope_softmax}
BOUNDS = {losses.squared: 1.0, losses.logistic: 0.25, losses.softmax: 0.5}


def plain(optimizer, x, y, rate, loss=losses.squared):
    """Probes after 1, 2, ... steps on all rows and features."""
    entries = len(y) if loss is losses.softmax else y.size
    smoothness = BOUNDS[loss] * np.linalg.svd(x, compute_uv=False)[0] ** 2 / entries
    w = np.zeros((x.shape[1], y.shape[1]))
    first, second, found = np.zeros_like(w), np.zeros_like(w), []
    for step in EVERY:
        g = x.T @ SLOPES[loss](x @ w, y)
        if optimizer == "gd":
            w = w - rate / smoothness * g
        elif optimizer == "inverse_smoothness":
            w = w - g / smoothness
        elif optimizer == "line_search":
            w = w - (g**2).sum() / (((x @ g) ** 2).sum() / y.size) * g
        elif optimizer in ("momentum", "nesterov"):
            first = g + 0.9 * first
            w = w - rate / smoothness * (first if optimizer == "momentum" else g + 0.9 * first)
        else:  # Adam, and with decay decoupled from it
            first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
            move = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
            w = w - rate * (move + (1e-4 * w if optimizer == "adamw" else 0))
        found.append(w)
    return found


RATES = {"gd": 0.7, "momentum": 0.4, "nesterov": 0.5, "adam": 0.1, "adamw": 0.2, "line_search": 1.0}


@pytest.mark.parametrize("kind", ["more rows", "more features", "lower rank"])
def test_the_reduced_problem_is_plain_descent(rng, kind):
    rows, d, spectrum = {
        "more rows": (20, 4, [4.0, 2, 1, 0.3]),
        "more features": (5, 9, [4.0, 3, 2, 1, 0.3]),
        "lower rank": (20, 4, [4.0, 1, 0.3, 0]),
    }[kind]
    x = prescribed.matrix(rng, spectrum, (rows, d))
    heldout_x = rng.standard_normal((7, d))
    y, heldout_y = (2 * np.eye(3)[rng.integers(0, 3, size)] - 1 for size in (rows, 7))
    best = np.linalg.lstsq(x, y)[0]
    found = run({name: (probe(name), rate) for name, rate in RATES.items()}, make_target(x, y, (heldout_x, heldout_y)))
    for name, rate in RATES.items():
        probes, trace = plain(name, x, y, rate), found[name]
        assert trace.loss[-1] < trace.loss[0]
        expected = {
            "loss": [loss_of(w, x, y) for w in probes],
            "heldout_loss": [loss_of(w, heldout_x, heldout_y) for w in probes],
            "accuracy": [np.mean((heldout_x @ w).argmax(1) == heldout_y.argmax(1)) for w in probes],
            "norm_ratio": [np.sum((w - best) ** 2) / np.sum(best**2) for w in probes],
        }
        for field, values in expected.items():
            np.testing.assert_allclose(getattr(trace, field), values, rtol=1e-9, atol=1e-14, err_msg=f"{name} {field}")


@pytest.mark.parametrize("loss", [losses.logistic, losses.softmax])
def test_other_losses_are_plain_descent_too(rng, loss):
    x, y = rng.standard_normal((20, 4)), 2 * np.eye(3)[rng.integers(0, 3, 20)] - 1
    rates = {"gd": 0.7, "adam": 0.1, "inverse_smoothness": 1.0}
    found = run({name: (probe(name, loss=loss), rate) for name, rate in rates.items()}, make_target(x, y))
    for name, rate in rates.items():
        probes = plain(name, x, y, rate, loss)
        expected = [float(loss(jnp.asarray(x @ w), jnp.asarray(y))) for w in probes]
        np.testing.assert_allclose(found[name].loss, expected, rtol=1e-9)
        np.testing.assert_allclose(found[name].heldout_loss, expected, rtol=1e-9)
        assert np.isnan(found[name].norm_ratio).all()


def test_a_column_of_targets_is_the_same_as_none(rng):
    x, y = rng.standard_normal((20, 4)), np.sign(rng.standard_normal(20))
    flat, column = (run({"adam": (probe("adam"), 0.1)}, make_target(x, targets))["adam"] for targets in (y, y[:, None]))
    jax.tree.map(np.testing.assert_array_equal, flat, column)
    right = [np.mean((x @ w > 0) == (y[:, None] > 0)) for w in plain("adam", x, y[:, None], 0.1)]
    np.testing.assert_allclose(flat.accuracy, right)


def test_the_rate_of_gradient_descent_is_in_units_of_curvature(rng):
    x, y = rng.standard_normal((20, 4)), rng.standard_normal(20)
    attack = {name: (probe(name), 0.5) for name in ("gd", "momentum", "nesterov", "sgd")}
    small, large = (run(attack, make_target(scale * x, y)) for scale in (1.0, 1e3))
    for name in attack:
        np.testing.assert_allclose(large[name].loss, small[name].loss, rtol=1e-9)
        assert np.isnan(small[name].accuracy).all()  # the targets are no classes


@pytest.mark.parametrize("classes", [(), (3,)], ids=["one target", "three targets"])
def test_exact_line_search_is_the_recurrence_of_its_eigenvalues(rng, classes):
    x = prescribed.features(rng, prescribed.geometric(100, 5), (20, 5))
    y = rng.standard_normal((20, *classes))
    found = run_one(probe("line_search"), make_target(x, y))
    np.testing.assert_allclose(share_left(found, x, y), excess_curve(x, y, STEPS)[1:], rtol=1e-8)


def test_the_optimal_constant_step_contracts_both_extremes_alike(rng):
    x, u = spectral(rng, [KAPPA, 7.0, 3.0, 1.0])
    y = u[:, 0] + 3 * u[:, 3]
    found = run_one(probe("optimal_constant"), make_target(x, y))
    np.testing.assert_allclose(found.norm_ratio, CONTRACTION ** np.array(EVERY), rtol=1e-9)
    np.testing.assert_allclose(share_left(found, x, y), CONTRACTION ** np.array(EVERY), rtol=1e-9)


def test_the_optimal_constant_step_counts_only_directions_that_are_there(rng):
    x, u = spectral(rng, [KAPPA, 2.0, 1.0, 0.0])
    found = run_one(probe("optimal_constant"), make_target(x, u[:, 0] + u[:, 2]))
    np.testing.assert_allclose(found.norm_ratio, CONTRACTION ** np.array(EVERY), rtol=1e-9)


def test_a_step_of_one_over_the_smoothness_leaves_most_of_the_weakest_direction(rng):
    x, u = spectral(rng, [KAPPA, 7.0, 3.0, 1.0])
    found = run_one(probe("inverse_smoothness"), make_target(x, u[:, 3]))
    np.testing.assert_allclose(found.norm_ratio, (1 - 1 / KAPPA) ** (2 * np.array(EVERY)), rtol=1e-9)
    at_strongest = run_one(probe("inverse_smoothness"), make_target(x, u[:, 0]))
    np.testing.assert_allclose(at_strongest.norm_ratio, 0, atol=1e-25)


def test_line_search_attains_kantorovich_s_bound_from_the_worst_start(rng):
    x, u = spectral(rng, [KAPPA, 7.0, 3.0, 1.0])
    y = u[:, 0] / KAPPA**0.5 + u[:, 3]  # equal gradients along both extremes
    found = run_one(probe("line_search"), make_target(x, y))
    np.testing.assert_allclose(share_left(found, x, y), CONTRACTION ** np.array(EVERY), rtol=1e-8)
    other = share_left(run_one(probe("line_search"), make_target(x, u @ rng.standard_normal(4))), x, y)
    assert (other[1:] <= other[:-1] * CONTRACTION).all() or (other < 1e-20).any()


@pytest.mark.parametrize("distinct", [1, 2, 4])
def test_conjugate_gradient_ends_after_as_many_steps_as_distinct_eigenvalues(rng, distinct):
    curvature = np.sort(np.resize(np.geomspace(1, KAPPA, distinct), 8))[::-1]
    x, u = spectral(rng, curvature)
    y = u @ rng.standard_normal((8, 2)) + 0.1 * rng.standard_normal((15, 2))
    left = share_left(run_one(probe("conjugate_gradient"), make_target(x, y)), x, y)
    np.testing.assert_allclose(left[distinct - 1 :], 0, atol=1e-13)
    assert (left[: distinct - 1] > 1e-5).all()


def test_conjugate_gradient_takes_a_step_length_for_each_target(rng):
    x, u = spectral(rng, np.geomspace(KAPPA, 1, 8))
    y = u[:, [0, 7]]
    left = share_left(run_one(probe("conjugate_gradient"), make_target(x, y)), x, y)
    np.testing.assert_allclose(left, 0, atol=1e-13)  # each target is an eigenvector: one step, but not with one length


def test_conjugate_gradient_neither_rises_nor_gives_up_where_rounding_rules(rng):
    attack = linear_probe("conjugate_gradient", steps=2000, record_at=(*range(1, 60), 1000, 2000))
    for kappa in (1e6, 1e12):
        x = prescribed.features(rng, prescribed.geometric(kappa, 8), (15, 8))
        y = rng.standard_normal((15, 2))
        found = run_one(attack, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), make_target(x, y)))
        assert not found.diverged.any()
        assert (np.diff(found.loss) < 1e-6).all()
        assert share_left(found, x, y)[-1] < 0.01


def test_lbfgs_finds_the_least_loss(rng):
    x = prescribed.features(rng, prescribed.geometric(100, 5), (20, 5))
    y = rng.standard_normal(20)
    found = run_one(linear_probe("lbfgs", steps=40, record_at=(40,)), make_target(x, y))
    np.testing.assert_allclose(share_left(found, x, y), 0, atol=1e-10)


def test_minibatches_of_equal_rows_are_the_whole(rng):
    x, y = np.tile(rng.standard_normal((1, 4)), (20, 1)), np.ones(20)
    found = run({"sgd": (probe("sgd"), 0.3), "gd": (probe("gd"), 0.3)}, make_target(x, y))
    np.testing.assert_allclose(found["sgd"].loss, found["gd"].loss, rtol=1e-9)


def test_sgd_takes_32_rows_unless_told(rng):
    target = make_target(rng.standard_normal((50, 4)), rng.standard_normal(50))
    sizes = {"usual": None, "32": 32, "31": 31}
    found = run({name: (probe("sgd", batch_size=size), 0.1) for name, size in sizes.items()}, target)
    np.testing.assert_array_equal(found["usual"].loss, found["32"].loss)
    assert not np.array_equal(found["usual"].loss, found["31"].loss)


def test_a_batch_scatters_about_the_whole_as_its_size_has_it(rng):
    x, y, size = rng.standard_normal((40, 1)), rng.standard_normal(40), 4
    target, keys = make_target(x, y, (np.ones((2, 1)), np.zeros(2))), jax.random.split(jax.random.key(0), 4000)
    attack = linear_probe("sgd", batch_size=size, steps=1)
    squares = 2 * jax.jit(jax.vmap(lambda key: attack(key, target, 1.0).heldout_loss[0]))(keys)
    # With one feature and a rate of 1 / L, the probe after one step is the mean of x y over the batch / mean of x^2.
    products = x[:, 0] * y / np.mean(x**2)
    np.testing.assert_allclose(np.mean(squares), products.mean() ** 2 + products.var() / size, rtol=0.1)


# One feature, one probe: the error is multiplied by 1 - rate at each step, so everything can be said beforehand.


def scalar():
    return make_target(np.ones((3, 1)), np.ones(3))


def test_a_thousandfold_loss_has_diverged_and_keeps_the_record_before():
    rates = {"slow": 2.05, "grows": 11.0, "900 times": 31.0, "1100 times": 1 + 1100**0.5}
    found = run({name: (probe("gd"), rate) for name, rate in rates.items()}, scalar())
    np.testing.assert_allclose(found["slow"].loss, 0.5 * 1.05 ** (2 * np.array(EVERY)), rtol=1e-9)
    for name, fine, kept in (("slow", STEPS, None), ("grows", 1, 50), ("900 times", 1, 450), ("1100 times", 0, 0.5)):
        np.testing.assert_array_equal(found[name].diverged, np.array(EVERY) > fine, err_msg=name)
        if kept is not None:
            np.testing.assert_allclose(found[name].loss, kept, rtol=1e-9)
            np.testing.assert_allclose(found[name].norm_ratio, 2 * kept, rtol=1e-9)


def test_what_diverged_between_two_records_has_diverged():
    found = run_one(linear_probe("adam", steps=3000, record_at=(3000,)), scalar(), 60.0)
    assert found.diverged.all()
    np.testing.assert_allclose(found.loss, 0.5)


def test_schedules_are_shares_of_the_rate():
    steps = 20
    t = np.arange(steps)
    shares = {
        "constant": np.ones(steps),
        "cosine": (1 + np.cos(np.pi * t / steps)) / 2,
        "warmup": np.where(t < 2, t / 2, (1 + np.cos(np.pi * (t - 2) / (steps - 2))) / 2),
    }
    assert tuple(shares) == attacks.optimizers.SCHEDULES
    settings = {"steps": steps, "record_at": range(1, steps + 1)}
    found = run({name: (linear_probe("gd", schedule=Schedule(name), **settings), 0.1) for name in shares}, scalar())
    for name, share in shares.items():
        np.testing.assert_allclose(found[name].norm_ratio, np.cumprod(1 - 0.1 * share) ** 2, rtol=1e-6, err_msg=name)


def test_the_shortest_courses_can_be_run():
    schedules = {name: Schedule(name) for name in ("cosine", "warmup")}
    found = run({name: linear_probe("gd", steps=1, schedule=course) for name, course in schedules.items()}, scalar())
    np.testing.assert_allclose([found["cosine"].loss, found["warmup"].loss], [[0.0], [0.5]], atol=1e-9)


def test_random_starts_are_uniform_up_to_one_over_the_root_of_the_features(rng):
    d = 4
    x = rng.standard_normal((10, d))
    first = np.zeros((2, d))
    first[:, 0] = 1  # the held-out loss is then half the square of the probe's first entry
    target = make_target(x, rng.standard_normal(10), (first, np.zeros(2)))
    attack = linear_probe("gd", steps=1, record_at=(1,), random_start=True)
    keys = jax.random.split(jax.random.key(0), 2000)
    entries = np.sqrt(2 * jax.jit(jax.vmap(lambda key: attack(key, target, 1e-12).heldout_loss[0]))(keys))
    assert entries.max() <= d**-0.5
    np.testing.assert_allclose(np.quantile(entries, [0.25, 0.5, 0.75, 1]) * d**0.5, [0.25, 0.5, 0.75, 1], atol=0.04)


def test_records_are_those_asked_for(rng):
    target = make_target(rng.standard_normal((20, 4)), rng.standard_normal(20))
    some = (2, 3, 9)
    found = run({"all": (probe("adam"), 0.1), "some": (probe("adam", record_at=some), 0.1)}, target)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[np.array(some) - 1]), found["some"], found["all"])
    assert jax.eval_shape(linear_probe("gd"), jax.random.key(0), target, 1.0).loss.shape == (
        len(attacks.log_spaced_steps(1000)),
    )


BAD = {
    "steps": {"steps": 0},
    "record_at: needs ascending": {"steps": 5, "record_at": (1, 6)},
    "record_at: .*0": {"steps": 5, "record_at": (0, 1)},
    "record_at: .*3, 2": {"steps": 5, "record_at": (3, 2)},
    "record_at: .*2, 2": {"steps": 5, "record_at": (2, 2)},
    "record_at": {"record_at": ()},
    "loss: needs": {"loss": "squared"},
    "loss: .*got": {"loss": lambda scores, y: 0.0, "optimizer": "gd"},
    "optimizer: line_search": {"loss": losses.logistic},
    "optimizer: conjugate_gradient": {"loss": losses.softmax, "optimizer": "conjugate_gradient"},
    "optimizer: optimal_constant": {"loss": losses.logistic, "optimizer": "optimal_constant"},
    "batch_size: needs": {"batch_size": 0, "optimizer": "sgd"},
    "batch_size: lbfgs": {"batch_size": 4, "optimizer": "lbfgs"},
    "random_start: line_search": {"random_start": True},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_settings_are_refused(message):
    with pytest.raises(InputError, match=f"^{message}"):
        linear_probe(**BAD[message])


def test_an_unknown_optimizer_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"^optimizer: 'adamm' is unknown.* adam, .*line_search"):
        linear_probe("adamm")
    with pytest.raises(InputError, match=r"^schedule: 'linear' is unknown.*constant, cosine, warmup"):
        Schedule("linear")


def test_softmax_of_one_class_is_refused():
    for attack in (linear_probe("gd", loss=losses.softmax), attacks.normal_equations(loss=losses.softmax)):
        with pytest.raises(InputError, match=r"^loss: softmax needs .*C = 1"):
            attack(jax.random.key(0), scalar(), 1.0)
