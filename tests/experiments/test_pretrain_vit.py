"""Training of the small transformer: it learns, an interruption does not show, and the weights come back as they were."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from networks.small_networks import filled

from cimm_jax.data.image_arrays import load_cifar10
from cimm_jax.errors import InputError
from cimm_jax.networks import NETWORKS, functional
from cimm_jax.networks.head import head_of
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.tails import tail_features
from cimm_jax.networks.vit import VIT_MINI_CIFAR10, VitConfig
from cimm_jax.networks.weights import export_weights, load_weights
from cimm_jax.resuming import Checkpoint
from experiments import pretrain_vit, pretraining, table3_deepnets, table3_tails
from experiments.common import CIFAR
from experiments.pretraining import Settings, train
from experiments.table3_deepnets import CONFIGURATIONS

GREYS = (0.5, 0.5, 0.5)
SMALL = VitConfig(
    32, 16, width=8, depth=1, heads=2, hidden=8, classes=10, preprocess=Preprocess.of_unit_pixels(32, GREYS, GREYS)
)
QUICK = Settings(epochs=4, batch_size=6, learning_rate=5e-2)
ARGUMENTS = ("--epochs", "4", "--batch-size", "6", "--learning-rate", "5e-2")
IMAGES, PER_EPOCH = 20, 3


@pytest.fixture(autouse=True)
def standard_promotion(standard_promotion_everywhere):
    return standard_promotion_everywhere


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Dark images of one class and bright ones of another, in CIFAR-10's file, and a network that is made for tests."""
    y = np.arange(IMAGES) % 2
    noise = np.random.default_rng(0).integers(0, 40, (2, IMAGES, 32, 32, 3))
    x = (noise + 200 * y[:, None, None, None]).astype(np.uint8)
    (tmp_path / CIFAR).parent.mkdir()
    np.savez(tmp_path / CIFAR, x_train=x[0], y_train=y, x_test=x[1], y_test=y)
    monkeypatch.setitem(NETWORKS, pretrain_vit.MODEL, f"{__name__}:SMALL")
    return tmp_path


def logits(network, pixels):
    x = np.asarray(SMALL.preprocess(pixels))
    return head_of(network).logits(tail_features(functional.split(network), x, network.cuts[0]))


@pytest.mark.slow
def test_it_learns_and_neither_an_interruption_nor_the_file_of_weights_shows(folder, monkeypatch, capsys):
    images, heldout = load_cifar10(folder / CIFAR)
    whole, epochs = train(SMALL, images, heldout, QUICK)
    assert epochs[-1]["loss"] < 0.7 * epochs[0]["loss"]
    assert epochs[-1]["heldout"] == 1

    arguments = ["--data-dir", str(folder), "--out", str(folder / "vit"), *ARGUMENTS]
    step, made = pretraining._step, []

    def interrupted(state, parts, pixels, labels, **named):
        made.append(pixels)
        if len(made) == 2 * PER_EPOCH + 2:
            raise KeyboardInterrupt
        return step(state, parts, pixels, labels, **named)

    monkeypatch.setattr(pretraining, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain_vit.main(arguments)
    assert not (folder / "vit/model.safetensors").exists()
    pretrain_vit.main(arguments)
    assert len(made) == 2 * PER_EPOCH + 2 + 2 * PER_EPOCH, "two epochs were saved"
    seen = [image.tobytes() for pixels in made[: 2 * PER_EPOCH] for image in pixels]
    plain = {images.pixels[image].tobytes() for image in range(IMAGES)}
    assert len(set(seen)) > 0.9 * len(seen), "every epoch has views of its own"
    assert sum(image in plain for image in seen) < 0.1 * len(seen)

    read = load_weights(SMALL, folder / "vit/model.safetensors")
    x = np.random.default_rng(1).integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(logits(read, x), logits(whole, x))
    results = json.loads((folder / "vit/results.json").read_text())
    assert [epoch["loss"] for epoch in results["epochs"]] == [epoch["loss"] for epoch in epochs]
    assert "held-out accuracy 1.0000 after 4 epochs" in capsys.readouterr().out
    assert (folder / "vit/training.png").read_bytes().startswith(b"\x89PNG")

    monkeypatch.setattr(pretraining, "_step", lambda *_, **__: pytest.fail("trained again"))
    pretrain_vit.main(arguments)
    assert "held-out accuracy 1.0000 after 4 epochs" in capsys.readouterr().out
    with pytest.raises(pytest.fail.Exception):
        pretrain_vit.main([*arguments, "--seed", "1"])


def test_more_epochs_are_another_training_whoever_made_the_checkpoint(folder):
    images, heldout = load_cifar10(folder / CIFAR)

    def losses(name, epochs):
        checkpoint = Checkpoint(folder / name, None)
        settings = dataclasses.replace(QUICK, epochs=epochs)
        return [epoch["loss"] for epoch in train(SMALL, images, heldout, settings, checkpoint=checkpoint)[1]]

    losses("one", 1)
    assert losses("one", 2) == losses("fresh", 2)


def test_only_matrices_decay_and_the_rate_rises_and_falls():
    params = {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}
    optimizer = pretraining._optimizer(Settings(learning_rate=0.1, weight_decay=0.5), 20)
    state, decayed = optimizer.init(params), []
    for _ in range(20):
        updates, state = optimizer.update(jax.tree.map(np.zeros_like, params), state, params)
        assert not np.any(updates["bias"])
        decayed.append(-float(updates["kernel"][0, 0]))
    assert np.argmax(decayed) == 2
    assert decayed[2] == pytest.approx(0.1 * 0.5)
    assert decayed[0] == 0
    assert decayed[-1] < 0.002


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("epochs", "0", "epochs: needs at least 1, got 0"),
        ("batch-size", "0", "batch_size: needs at least 1, got 0"),
        ("batch-size", "21", r"batch_size: needs 1 to 20 \(the training images\), got 21"),
        ("learning-rate", "nan", "learning_rate: needs a positive finite number, got nan"),
        ("weight-decay", "-1", "weight_decay: needs a finite number of at least 0, got -1"),
        ("label-smoothing", "1", "label_smoothing: needs a number from 0 to below 1, got 1"),
        ("data-dir", "elsewhere", r"images: elsewhere.*cifar10_subset\.npz cannot be read"),
    ],
)
def test_bad_input_is_refused(folder, setting, value, message):
    arguments = ["--data-dir", str(folder), "--out", str(folder / "vit"), f"--{setting}", value]
    with pytest.raises(InputError, match=message):
        pretrain_vit.main(arguments)


def test_table3_trains_the_network_first_and_then_its_last_block(folder, monkeypatch):
    base, cut, _ = table3_tails.TAILS["tail_vit_mnist"]
    assert CONFIGURATIONS[base].model == pretrain_vit.MODEL
    assert cut == f"block{VIT_MINI_CIFAR10.depth - 1}"
    network, trained, measured = filled(SMALL), [], []

    def pretrained(data_dir, out, settings):
        trained.append((data_dir, out, settings))
        return export_weights(network, folder / "trained.safetensors")

    def recorded(subject, settings, after, head, seed):
        measured.append(after)
        return {"broken": True}

    monkeypatch.setitem(CONFIGURATIONS, base, dataclasses.replace(CONFIGURATIONS[base], harmful=CIFAR))
    monkeypatch.setitem(table3_tails.TAILS, "tail_vit_mnist", table3_tails.Tail(base, "block0"))
    monkeypatch.setattr(table3_deepnets, "pretrained", pretrained)
    monkeypatch.setattr(table3_tails, "_measured", recorded)
    monkeypatch.setattr(table3_tails, "_trunk_accuracy", lambda harmful: 0.5)
    arguments = ["--config", "tail_vit_mnist", "--data-dir", str(folder), "--cache", str(folder / "cache")]
    arguments += ["--methods", "plain", "--strengths", "1", "--epochs", "1", "--batch-size", "10"]
    arguments += ["--out", str(folder / "out")]
    table3_tails.main(arguments)
    assert trained == [(folder, folder / "out/vit", Settings())]
    before, after = (features.primary.train.x for features in measured)
    pixels = np.load(folder / CIFAR)["x_train"]
    np.testing.assert_allclose(head_of(network).logits(before), logits(network, pixels), rtol=1e-4, atol=1e-5)
    assert np.isfinite(after).all()
    assert not np.allclose(after, before, atol=1e-3)

    table3_tails.main([*arguments, "--weights", str(folder / "trained.safetensors")])
    assert len(trained) == 1, "weights that are given are used"
    assert len(measured) == 2, "and are the same ones"
