"""Table 3 with last blocks trained, small: rows, resumption, features that training killed, and the way there from `cimm`."""

import json
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from small_images import write_cifar

from cimm_jax.commands import cli
from cimm_jax.errors import InputError
from cimm_jax.files import write_json
from cimm_jax.networks.registry import by_name
from cimm_jax.networks.training import Trained
from experiments import table3_tails
from experiments.table3_deepnets import CONFIGURATIONS

HALVES = CONFIGURATIONS["resnet20_halves"]
IMAGES = 40


@pytest.fixture(autouse=True)
def standard_promotion(standard_promotion_everywhere):
    return standard_promotion_everywhere


def moved(parts, cut, primary, harmful, *, penalties, settings):
    """Instead of training: parameters a little further, the more so the more penalties; infinitely far at that rate."""
    assert primary.x.shape[1:] == harmful.x.shape[1:] == (8, 8, 64)
    far = settings.learning_rate * (1 + len(penalties))
    tail = jax.tree.map(lambda leaf: leaf + np.float32(far) * jnp.abs(leaf), parts.tail)
    return Trained(parts._replace(tail=tail), np.zeros(1), np.ones(len(penalties)), [])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Random images of CIFAR-10's shape and a random ResNet20, two halves of whose classes are a pair."""
    write_cifar(tmp_path, weights=HALVES.weights, images=HALVES.primary, count=IMAGES)
    monkeypatch.setattr(table3_tails, "TAILS", {"tail_halves": table3_tails.Tail("resnet20_halves", "layer3.2")})
    monkeypatch.setattr(table3_tails, "RATES", {1.0: 1e-3, 2.0: np.inf})
    monkeypatch.setattr(table3_tails, "ATTACKERS", ("gd", "normal equations"))
    monkeypatch.setattr(table3_tails, "TrainingSettings", SimpleNamespace)
    monkeypatch.setattr(table3_tails, "train_tail", moved)
    return tmp_path


@pytest.mark.slow
def test_rows_are_made_once_and_dead_features_are_said(folder, capsys, monkeypatch):
    arguments = ["--config", "tail_halves", "--data-dir", str(folder), "--out", str(folder / "out"), "--epochs", "1"]
    arguments += ["--cache", str(folder / "cache"), "--methods", "plain", "ill_only", "--batch-size", "10"]
    arguments += ["--attack-steps", "10", "--rates", "2"]
    written = table3_tails.main(arguments)
    printed = capsys.readouterr().out
    assert "infinite" in printed
    assert list((folder / "out").rglob("results.json")) == [written]
    results = json.loads(written.read_text())
    undefended, plain, ill, dead = results["rows"]
    assert [row["method"] for row in results["rows"]] == ["undefended", "plain", "ill_only", "ill_only"]
    assert undefended["ratios"]["PseudoInverse"]["rir"] == 1
    assert ill["ratios"]["PseudoInverse"]["rir"] != plain["ratios"]["PseudoInverse"]["rir"] != 1
    assert len(ill["lambdas"]) == 1
    for task in ("harmful", "primary"):
        assert set(ill["attacks"][task]) == {"gd", "normal equations"}
        assert 0 <= ill["attacks"][task]["gd"]["accuracy"] <= 1
    assert ill["attacks"]["harmful"] != ill["attacks"]["primary"]
    assert dead["broken"]
    assert not ill["broken"]

    (folder / "out/vit").mkdir()  # as `pretrain_vit` leaves it beside the configurations
    (folder / "out/vit/results.json").write_text(json.dumps({"model": "vit_mini_cifar10", "rows": 20, "epochs": []}))
    figure = ["reproduce", "figure3", "--runs", str(folder / "out"), "--out", str(folder / "figure3")]
    assert cli.main(figure) == 0
    table = capsys.readouterr().out
    assert "tail_halves" in table
    assert "ill_only" in table
    assert "strength 2" not in table, "its features died"
    assert (folder / "figure3/figure3.png").read_bytes().startswith(b"\x89PNG")
    drawn = json.loads((folder / "figure3/results.json").read_text())["tail_halves"]
    assert drawn["records"][-1] == 10
    assert drawn["curves"]["primary"]["the best"]["plain"][0][-1] == plain["attacks"]["primary"]["gd"]["accuracy"]

    monkeypatch.setattr(table3_tails, "_row", lambda *_, **__: pytest.fail("run again"))
    table3_tails.main(arguments)
    assert capsys.readouterr().out == printed, "everything is finished, nothing is run again"
    with pytest.raises(InputError, match="other images or weights"):
        table3_tails.main([*arguments, "--views", "2"])


def test_images_in_one_part_are_refused_before_anything_is_computed(folder, monkeypatch):
    (folder / "flat").mkdir()
    for shade in range(3):
        Image.new("RGB", (32, 32), (90 * shade,) * 3).save(folder / f"flat/{shade}.png")
    monkeypatch.setattr(table3_tails, "resumed", lambda *_, **__: pytest.fail("begun"))
    arguments = ["--config", "tail_halves", "--data-dir", str(folder), "--harmful", str(folder / "flat")]
    monkeypatch.setitem(CONFIGURATIONS, "resnet20_halves", replace(HALVES, harmful_classes=()))
    with pytest.raises(InputError, match="harmful: has no held-out images"):
        table3_tails.main([*arguments, "--batch-size", "2", "--out", str(folder / "out")])


def test_reproduce_reaches_it_and_prints_the_file_that_it_wrote(monkeypatch, tmp_path, capsys):
    called = []

    def main(arguments):
        called.append(arguments)
        print("a table")
        return write_json(tmp_path / "deeper.json", {"rows": []})

    monkeypatch.setattr(table3_tails, "main", main)
    arguments = ["reproduce", "table3", "--config", "tail_resnet20_mnist", "--data-dir", str(tmp_path)]
    assert cli.main([*arguments, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "a table\n"
    assert called[0][called[0].index("--config") + 1] == "tail_resnet20_mnist"
    assert cli.main([*arguments, "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": []}


@pytest.mark.parametrize("name", table3_tails.TAILS)
def test_every_tail_is_a_cut_of_its_network(name):
    tail = table3_tails.TAILS[name]
    network = nnx.eval_shape(lambda: by_name(CONFIGURATIONS[tail.configuration].model).build(nnx.Rngs(0)))
    assert tail.cut in network.parts


def test_released_settings_train_algorithm_1_with_their_lambdas_too(monkeypatch):
    released = table3_tails.TAILS["tail_vit_b16_country211"].released
    settings = table3_tails._settings(["--config", "tail_vit_b16_country211", "--data-dir", "."])
    assert (settings.epochs, settings.batch_size) == (2, 32)
    assert table3_tails._settings(["--config", "tail_vit_b16_cars", "--data-dir", ".", "--epochs", "3"]).epochs == 3
    rows = table3_tails._wanted(settings)
    assert [row["method"] for row in rows if row["strength"] == 1][-2:] == ["algorithm1", "algorithm1, released"]
    assert [of.weight for of in table3_tails._penalties("algorithm1, released", released)] == [1e-6, 1e8]
    assert [of.weight for of in table3_tails._penalties("algorithm1", released)] == [None, None]
    without = table3_tails._settings(["--config", "tail_vit_mnist", "--data-dir", "."])
    assert "algorithm1, released" not in [row["method"] for row in table3_tails._wanted(without)]
    assert (without.epochs, without.batch_size) == (2, 64)
