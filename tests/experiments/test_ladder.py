"""The ladder of every defence: a defence that other settings or data made is not taken for this one."""

from types import SimpleNamespace

import numpy as np
import pytest

from cimm_jax.networks.training import TrainingSettings
from cimm_jax.runs.defence import MapDefence
from experiments import ladder


@pytest.fixture
def made(monkeypatch):
    steps_of = []

    def make_map(subject, method, *, steps, **_):
        steps_of.append(steps)
        return MapDefence("erase", np.eye(2) * steps), None

    monkeypatch.setattr(ladder, "make_map", make_map)
    return steps_of


def settings(*more):
    return ladder._settings(["--data-dir", "D", "--configs", "resnet20_mnist", *more])


def scale(folder, *more, data="a"):
    subject, asked = SimpleNamespace(head=None, network=None, network_data={"sha256": data}), settings(*more)
    config = ladder.CONFIGS["resnet20_mnist"]
    (wanted,) = ladder._wanted("erase", config, asked)
    return ladder._defence(wanted, subject, config, folder, asked).theta[0, 0]


def test_a_defence_of_other_settings_or_data_is_made_again(tmp_path, made):
    assert [scale(tmp_path, "--steps", "3"), scale(tmp_path, "--steps", "3")] == [3, 3]
    assert made == [3], "it is finished"
    scale(tmp_path, "--steps", "4")
    scale(tmp_path, "--steps", "4", "--seed", "1")
    scale(tmp_path, "--steps", "4", "--seed", "1", data="b")
    assert made == [3, 4, 4, 4]


def test_what_trains_blocks_is_made_with_as_many_seeds_as_are_asked_for_and_a_map_once():
    config, asked = ladder.CONFIGS["resnet20_mnist"], settings("--seed", "4", "--defence-seeds", "2")
    named = [(wanted.name, wanted.seed) for wanted in ladder._wanted("best_response", config, asked)]
    assert named == [("best_response", 4), ("best_response, seed 5", 5)]
    assert [(wanted.name, wanted.seed) for wanted in ladder._wanted("erase", config, asked)] == [("erase", 4)]


def test_longer_training_has_its_own_steps_and_heads_and_is_made_once(tmp_path, monkeypatch):
    made, config = [], ladder.CONFIGS["resnet20_mnist"]

    def train_blocks(subject, method, training, **_):
        made.append((method, training))
        return (SimpleNamespace(write=lambda *_: None),)

    subject = SimpleNamespace(
        head=None, network=None, network_data={}, source=None, cache=None, cut_at=lambda cut: None
    )
    monkeypatch.setattr(ladder, "NetworkSubject", lambda *_: subject)
    monkeypatch.setattr(ladder, "train_blocks", train_blocks)
    monkeypatch.setattr(ladder, "training_settings", lambda method, subject, **given: TrainingSettings(**given))
    monkeypatch.setattr(ladder.TrainedDefence, "read", lambda name, *_: f"read {name}")

    def defence(name):
        (wanted,) = ladder._wanted(name, config, settings())
        return ladder._defence(wanted, subject, config, tmp_path, settings())

    defence("best_response, longer")
    assert defence("best_response, longer") == "read best_response, longer"
    defence("best_response")
    (longer, plain), (longer_training, plain_training) = zip(*made, strict=True)
    assert (longer_training.steps, plain_training.steps) == (600, None)
    names = [method.penalties[0].value.__qualname__ for method in (longer, plain)]
    assert names == ["explained by linear, kernel, whitened", "explained by linear, kernel"]


def test_the_command_of_a_record_makes_it_again():
    asked = settings("--defences", "erase", "algorithm1 blocks", "--seeds", "2", "--sophon", "--out", "elsewhere")
    command = ladder._command("resnet20_mnist", asked)
    assert "--defences erase 'algorithm1 blocks' --seeds 2" in command
    assert command.endswith("--sophon")
    assert "elsewhere" not in command
    assert "image-rows" not in command
