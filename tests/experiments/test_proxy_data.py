"""Proxies: how alike they are to the target, and how much of an attack they remove."""

import json
from types import SimpleNamespace

import numpy as np
import prescribed
import pytest
from small_images import write_cifar

from cimm_jax.attacks import UNDEFENDED
from cimm_jax.tasks import Task
from experiments import proxy_data
from experiments.common import CIFAR
from experiments.intervals import half_width
from experiments.proxies import TARGET, Proxy, drawn_from_moments, share_of_target, shared_directions, some, task_of
from experiments.proxy_data import BLOCK, DEFENCES, HIDDEN, MAPS, labelled_proxy, predictors, tabulated, verdict
from experiments.table3_deepnets import Configuration


def labelled(rng, means, rows=400):
    """Rows around the mean of their class."""
    labels = rng.integers(0, len(means), rows)
    return Proxy(means[labels] + 0.1 * rng.standard_normal((rows, means.shape[1])), labels)


def test_label_directions_are_shared_as_far_as_the_spans_are(rng):
    axes = prescribed.orthonormal(rng, 6, 6)
    target = labelled(rng, np.stack([axes[0], -axes[0]]))
    same, other = labelled(rng, np.stack([3 * axes[0], -axes[0]])), labelled(rng, np.stack([axes[1], -axes[1]]))
    tasks = [task_of(of) for of in (same, other, target)]
    assert shared_directions(tasks[0], tasks[2]) > 0.9
    assert shared_directions(tasks[1], tasks[2]) < 0.1


def test_a_proxy_of_some_classes_has_targets_of_those_alone(rng):
    task = task_of(Proxy(rng.standard_normal((6, 2)), np.array([3, 7, 3, 7, 9, 9])))
    assert isinstance(task, Task)
    assert task.y.shape == (6, 3)


def test_moments_are_those_of_the_classes(rng):
    of = labelled(rng, 3 * np.eye(10, 12), 5000)
    drawn = drawn_from_moments(of, rng)
    for label in range(10):
        np.testing.assert_allclose(drawn.x[drawn.labels == label].mean(0), of.x[of.labels == label].mean(0), atol=0.05)
    assert not np.allclose(drawn.x, of.x)
    assert drawn.activations is None


def test_rows_of_the_target_are_found_whatever_rounding_made_of_them(rng):
    target, other = labelled(rng, np.eye(2, 6)), labelled(rng, np.eye(2, 6))
    mine = some(target, np.arange(30))
    rounded = mine._replace(x=mine.x * (1 + 1e-7))
    mixed = Proxy(np.concatenate([rounded.x, other.x[:70]]), np.zeros(100, int))
    assert [share_of_target(of, target) for of in (rounded, mixed, other)] == [1.0, 0.3, 0.0]


def record(accuracy, likeness, of_target=()):
    """By proxy, alike for all maps and blocks; those of `of_target` are the target's rows."""
    defended = {
        f"{name}: {proxy}": {"linear": of, "nonlinear": of} for name in DEFENCES for proxy, of in accuracy.items()
    }
    return {
        "accuracy": {UNDEFENDED: {"linear": 0.9, "nonlinear": 0.9}, **defended},
        "primary": {UNDEFENDED: 0.92, **dict.fromkeys(accuracy, 0.91)},
        "likeness": {proxy: {"measure": of} for proxy, of in likeness.items()},
        "of_target": {proxy: 1.0 * (proxy in of_target) for proxy in accuracy},
    }


def test_removed_is_the_share_above_guessing_over_seeds():
    records = [record({"near": 0.1 + 0.1 * seed, "far": 0.9}, {"near": 1.0, "far": 0.0}) for seed in range(3)]
    rows = {(row["defence"], row["proxy"], row["heads"]): row for row in tabulated(records)}
    near, far = (rows["erase", proxy, "linear"] for proxy in ("near", "far"))
    assert near["removed"].estimate == pytest.approx(1 - 0.1 / 0.8)
    assert half_width(near["removed"]) == pytest.approx(4.303 * (0.1 / 0.8) / 3**0.5, rel=1e-3)
    assert far["removed"] == (0, 0, 0)
    assert rows[BLOCK, "near", "linear"]["primary"].estimate == pytest.approx(0.91)
    assert near["primary"] is None
    assert predictors(records)["erase"]["measure"] > 0.8


def test_a_proxy_that_is_the_target_is_said_to_be_and_predicts_nothing():
    accuracy = {"near": 0.3, "far": 0.8, TARGET: 0.1}
    turned_round = {"near": 1.0, "far": 0.0, TARGET: -1.0}
    records = [record(accuracy, turned_round, of_target=(TARGET,))]
    assert predictors(records)[BLOCK]["measure"] == pytest.approx(1)
    rows = {row["proxy"]: row for row in tabulated(records)}
    names = [labelled_proxy(row) for row in rows.values()]
    assert names == ["near", "far", f"{TARGET} (no proxy)"]
    assert labelled_proxy(rows["near"] | {"of_target": 0.25}) == "near (25% the target's)"


def test_the_verdict_says_what_erasers_and_blocks_remove():
    proxies = ("other images", "5 of 10 classes", "another data set", "no labels", "images of noise")
    accuracy = {name: 0.1 + 0.2 * number for number, name in enumerate(proxies)}
    records = [record(accuracy, {name: -number for number, name in enumerate(proxies)})]
    told = verdict(tabulated(records), predictors(records))
    assert "other images of the target, erase and a trained block remove 100% and 100%" in told
    assert "from images of noise 0% and 0%; what says it beforehand is measure for erase (rho 1.00)" in told


@pytest.mark.usefixtures("standard_promotion_everywhere")
def test_every_proxy_makes_maps_and_blocks_once(tmp_path, monkeypatch, capsys):
    small = Configuration("resnet20_cifar10", "weights/small.safetensors", CIFAR, CIFAR)
    write_cifar(tmp_path, weights=small.weights, images=CIFAR, count=120)
    hidden = []

    def trained_to_hide(network, cut, primary, harmful, *, seed, steps):
        hidden.append((cut, len(harmful.labels), int(harmful.labels.max()) + 1, steps))
        return network

    def immunize(method, pair, *, key):
        return SimpleNamespace(theta=0.5 * np.eye(pair.primary.x.shape[1]))

    def attacked(shown, *rest, classes, seed):
        return {name: dict.fromkeys(("linear", "nonlinear"), 0.2 + 0.01 * place) for place, name in enumerate(shown)}

    monkeypatch.setattr(proxy_data, "CONFIGURATIONS", {"resnet20_mnist": small})
    monkeypatch.setattr(proxy_data, "trained_to_hide", trained_to_hide)
    monkeypatch.setattr(proxy_data.methods, "immunize", immunize)
    monkeypatch.setattr(proxy_data, "best_heads", attacked)
    monkeypatch.setattr(proxy_data, "best_heads_on", attacked)
    monkeypatch.setattr(proxy_data, "likeness", lambda of, target: {"rows": float(len(of.x))})
    monkeypatch.setattr(proxy_data, "FEW", 3)
    arguments = ["--data-dir", str(tmp_path), "--out", str(tmp_path / "out"), "--rows", "100", "--steps", "7"]
    folder = proxy_data.main([*arguments, "--seeds", "1"])
    (seed,) = json.loads((folder / "seeds.json").read_text())["content"]
    made = set(seed["likeness"])
    assert len(hidden) == len(HIDDEN)
    assert {(cut, steps) for cut, *_, steps in hidden} == {("layer3.2", 7)}
    assert {2, 5, 10} <= {classes for _, _, classes, _ in hidden}
    expected = {f"{name}: {proxy}" for name in MAPS for proxy in made}
    assert set(seed["accuracy"]) == {UNDEFENDED, *expected, *(f"{BLOCK}: {name}" for name in HIDDEN)}
    assert seed["of_target"][TARGET] == 1
    assert set(seed["primary"]) == {UNDEFENDED, *HIDDEN}
    assert len(set(seed["primary"].values())) == 1, "the network was left as it is"
    assert f"{TARGET} (no proxy)" in capsys.readouterr().out
    assert (folder / "proxy_data.png").stat().st_size > 1000
    proxy_data.main([*arguments, "--seeds", "1"])
    assert len(hidden) == len(HIDDEN), "it is finished"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "argument --seeds: needs at least 1, got 0"),
        (["--rows", "10"], "argument --rows: needs at least 100, got 10"),
        (["--steps", "0"], "argument --steps: needs at least 1, got 0"),
    ],
)
def test_what_cannot_be_run_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        proxy_data.main(["--data-dir", "D", *arguments])
    assert message in capsys.readouterr().err
