"""Configurations of Table 3: which images they take, and that results on other images are not mixed in."""

import argparse
import json
from types import SimpleNamespace

import numpy as np
import pytest
from small_images import write_cifar

from cimm_jax.errors import InputError
from cimm_jax.tasks import Task, TaskPair
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
    made |= {"primary": None, "harmful": None, "views": 1}
    return argparse.Namespace(**{**made, **changed})


def test_the_halves_of_cifar_are_its_classes(folder):
    data = table3_deepnets.read_inputs(HALVES, settings(folder)).data(folder / "cache")
    primary, harmful = data.features
    assert primary.train.labels.tolist() == [0, 1, 2, 3, 4] * 3, "the head's numbering"
    assert harmful.train.labels.tolist() == [0, 1, 2, 3, 4] * 3
    assert not set(map(bytes, primary.train.x)) & set(map(bytes, harmful.train.x))
    assert data.head.kernel.shape[1] == 10
    assert HALVES.harmful_classes == ("dog", "frog", "horse", "ship", "truck")


def test_other_images_and_more_views_of_them(folder):
    data = table3_deepnets.read_inputs(HALVES, settings(folder, harmful=str(folder / HALVES.primary), views=2))
    described = data.described()
    assert described["primary"]["train"]["views"] == described["harmful"]["train"]["views"] == 2
    with pytest.raises(InputError, match="cannot open nothing_like_it"):
        table3_deepnets.read_inputs(HALVES, settings(folder, primary="tfds:nothing_like_it"))


def test_bad_input_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"data_dir: .*resnet20_cifar10\.safetensors is missing"):
        table3_deepnets.read_inputs(HALVES, settings(tmp_path))
    with pytest.raises(InputError, match="nonsense"):
        table3_deepnets.main(["--config", "lite0_cars", "--data-dir", str(tmp_path), "--attackers", "nonsense"])
    with pytest.raises(InputError, match="batch_size: needs 1 to 15"):
        table3_deepnets.read_inputs(HALVES, settings(folder, batch_size=16))


def test_a_folder_is_for_one_set_of_images(tmp_path):
    table3_deepnets.check_same_inputs(tmp_path, {"features": 64, "primary": {"sha256": "a"}})
    table3_deepnets.check_same_inputs(tmp_path, {"features": 64, "primary": {"sha256": "a"}})
    with pytest.raises(InputError, match=r"out: .*other images or weights"):
        table3_deepnets.check_same_inputs(tmp_path, {"features": 64, "primary": {"sha256": "b"}})


def test_a_map_of_other_settings_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(table3_deepnets, "immunize", lambda *_, steps, **__: SimpleNamespace(theta=np.eye(2) * steps))
    pair = TaskPair(Task(np.eye(2), None), Task(np.eye(2), None))
    path, figures = tmp_path / "imma-0.safetensors", tmp_path / "imma-0.json"

    def scale(steps):
        made = argparse.Namespace(steps=steps, batch_size=1)
        return table3_deepnets._theta("imma", 0, pair, path, made)[0, 0]

    assert scale(3) == 3
    figures.write_text(json.dumps({"made_by": {"steps": 3, "batch_size": 1}}))
    table3_deepnets.write_whole(path, table3_deepnets.save({"theta": np.eye(2) * 7}))
    assert scale(3) == 7, "it is finished"
    assert scale(4) == 4
    assert scale(3) == 3, "the figures of the first map do not vouch for the second"


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
