"""Configurations of Table 3: which images they take, and that results on other images are not mixed in."""

import argparse
import json
from types import SimpleNamespace

import numpy as np
import pytest
from small_images import write_cifar

from cimm_jax.errors import InputError
from cimm_jax.runs.defence import MapDefence
from cimm_jax.runs.network_data import ImagePart, NetworkData
from experiments import figure3, table3_deepnets
from experiments.table3_deepnets import CONFIGURATIONS

HALVES = CONFIGURATIONS["resnet20_halves"]
IMAGES = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return write_cifar(root, weights=HALVES.weights, images=HALVES.primary, count=IMAGES)


def settings(folder, **changed):
    made = {"config": "resnet20_halves", "data_dir": folder, "image_rows": None, "batch_size": 4}
    made |= {"out": folder, "primary": None, "harmful": None, "views": 1, "weights": None, "cache": folder / "cache"}
    return argparse.Namespace(**{**made, **changed})


def test_the_halves_of_cifar_are_its_classes(folder):
    subject = table3_deepnets.subject_of(HALVES, settings(folder))
    primary, harmful = subject.published
    assert primary.train.labels.tolist() == [0, 1, 2, 3, 4] * 3, "the head's numbering"
    assert harmful.train.labels.tolist() == [0, 1, 2, 3, 4] * 3
    assert not set(map(bytes, primary.train.x)) & set(map(bytes, harmful.train.x))
    assert subject.head.kernel.shape[1] == 10
    assert HALVES.harmful_classes == ("dog", "frog", "horse", "ship", "truck")


def test_other_images_and_more_views_of_them(folder):
    chosen = settings(folder, harmful=str(folder / HALVES.primary), views=2)
    data = table3_deepnets.subject_of(HALVES, chosen).network_data
    assert data.primary["train"].views == data.harmful["train"].views == 2
    with pytest.raises(InputError, match="cannot open nothing_like_it"):
        table3_deepnets.subject_of(HALVES, settings(folder, primary="tfds:nothing_like_it"))


def test_bad_input_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"data_dir: .*resnet20_cifar10\.safetensors is missing"):
        table3_deepnets.subject_of(HALVES, settings(tmp_path))
    with pytest.raises(InputError, match="nonsense"):
        table3_deepnets.main(["--config", "lite0_cars", "--data-dir", str(tmp_path), "--attackers", "nonsense"])
    with pytest.raises(InputError, match="batch_size: needs 1 to 15"):
        table3_deepnets.subject_of(HALVES, settings(folder, batch_size=16))


def network_data(sha256):
    return NetworkData("weights", 64, {"train": ImagePart(10, 2, sha256, 0, 1, ())}, {})


def test_a_folder_is_for_one_set_of_images(tmp_path):
    table3_deepnets.check_same_inputs(tmp_path, network_data("a"))
    table3_deepnets.check_same_inputs(tmp_path, network_data("a"))
    with pytest.raises(InputError, match=r"out: .*other images or weights"):
        table3_deepnets.check_same_inputs(tmp_path, network_data("b"))
    table3_deepnets.check_same_inputs(tmp_path, network_data("a"))


def test_a_map_of_other_settings_is_made_again(tmp_path, monkeypatch):
    made = []

    def make_map(subject, method, *, steps, **_):
        made.append(steps)
        return MapDefence("imma", np.eye(2) * steps), None

    monkeypatch.setattr(table3_deepnets, "make_map", make_map)

    def scale(steps, sha256="a"):
        subject = SimpleNamespace(features=2, network_data=network_data(sha256))
        chosen = argparse.Namespace(steps=steps, batch_size=1)
        return table3_deepnets._defence("imma", 0, subject, tmp_path / "imma-0", chosen).theta[0, 0]

    assert [scale(3), scale(3)] == [3, 3]
    assert made == [3], "it is finished"
    assert [scale(4), scale(3), scale(3, "b")] == [4, 3, 3]
    assert made == [3, 4, 3], "made for other settings or images; the map before the last is still there"


@pytest.mark.slow
def test_what_is_measured_and_who_attacked_is_kept(folder, tmp_path, monkeypatch, capsys):
    arguments = ["--config", "resnet20_halves", "--data-dir", str(folder), "--cache", str(folder / "cache")]
    arguments += ["--methods", "undefended", "pencil", "--batch-size", "4", "--attack-steps", "5", "--rates", "2"]
    arguments += ["--out", str(tmp_path)]
    written = table3_deepnets.main([*arguments, "--attackers", "gd"])
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("results.json")] == [written.relative_to(tmp_path)]
    results = json.loads(written.read_text())
    undefended, pencil = (results["methods"][name][0] for name in ("undefended", "pencil"))
    for policy, ratios in undefended["ratios"].items():
        assert ratios["rir"] == ratios["groups"]["rir"][0] == 1, policy
    assert pencil["ratios"]["PseudoInverse"]["rir"] > 1
    assert pencil["primary_kept"]["accuracy_after"] == undefended["primary_kept"]["accuracy_before"]
    assert set(pencil["attacks"]["harmful"]) == {"gd"}
    assert set(pencil["attacks"]["primary"]) == {"gd", "momentum", "adam"}

    monkeypatch.setattr(table3_deepnets, "make_map", None)
    monkeypatch.setattr(table3_deepnets, "_measured", None)
    capsys.readouterr()
    table3_deepnets.main([*arguments, "--attackers", "gd", "normal equations"])
    assert "normal equations" in capsys.readouterr().out
    again = json.loads(written.read_text())["methods"]["pencil"][0]
    assert set(again["attacks"]["harmful"]) == {"gd", "normal equations"}
    assert again["attacks"]["harmful"]["gd"] == pencil["attacks"]["harmful"]["gd"]


def test_without_heldout_images_of_a_task_there_are_dashes(capsys):
    measures = {"harmful_ratio": 1.0, "primary_ratio": 1.0, "rir": 1.0, "groups": {"rir": [1.0, 0.0]}}
    run = {
        "ratios": dict.fromkeys(("PseudoInverse", "ReleasedCode"), measures),
        "primary_kept": {},
        "attacks": {},
    }
    chosen = argparse.Namespace(config="resnet20_halves", attackers=("gd",), attack_steps=10, rates=2)
    table3_deepnets._print(chosen, HALVES, {"pencil": [run]})
    assert "pencil" in capsys.readouterr().out.splitlines()[-2]


def test_figure3_tells_the_best_probe_at_every_step():
    def seed(gd, adam):
        return {"attacks": {"harmful": {"gd": {"accuracy_curve": gd}, "adam": {"accuracy_curve": adam}}}}

    curves = figure3._curves({"pencil": [seed([0.1, 0.5], [0.3, 0.4]), seed([0.0, 0.2], [0.1, 0.1])]})
    assert curves["harmful"]["gd"]["pencil"].tolist() == [[0.1, 0.5], [0.0, 0.2]]
    assert curves["harmful"]["the best"]["pencil"].tolist() == [[0.3, 0.5], [0.1, 0.2]]
    assert curves["primary"] == {}, "nothing was held out"
