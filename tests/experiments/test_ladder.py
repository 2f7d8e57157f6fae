"""The ladder of every defence: a defence that other settings or data made is not taken for this one."""

from types import SimpleNamespace

import numpy as np
import pytest

from cimm_jax.networks.training import TrainingSettings
from cimm_jax.runs.defence import MapDefence
from cimm_jax.runs.source import NetworkSource
from experiments import ladder

SOURCE = NetworkSource("resnet20_cifar10", "weights", "primary", "harmful")


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


def asked(*more):
    return ladder.Asked.of(settings(*more))


def scale(folder, *more, data="a"):
    subject, wishes = SimpleNamespace(head=None, network=None, network_data={"sha256": data}), asked(*more)
    config = ladder.CONFIGS["resnet20_mnist"]
    (wanted,) = ladder._wanted("erase", config, wishes)
    return ladder._defence(wanted, subject, config, folder, wishes).theta[0, 0]


def test_a_defence_of_other_settings_or_data_is_made_again(tmp_path, made):
    assert [scale(tmp_path, "--steps", "3"), scale(tmp_path, "--steps", "3")] == [3, 3]
    assert made == [3], "it is finished"
    scale(tmp_path, "--steps", "4")
    scale(tmp_path, "--steps", "4", "--seed", "1")
    scale(tmp_path, "--steps", "4", "--seed", "1", data="b")
    assert made == [3, 4, 4, 4]


def test_what_trains_blocks_is_made_with_as_many_seeds_as_are_asked_for_and_a_map_once():
    config, wishes = ladder.CONFIGS["resnet20_mnist"], asked("--seed", "4", "--defence-seeds", "2")
    named = [(wanted.name, wanted.seed) for wanted in ladder._wanted("best_response", config, wishes)]
    assert named == [("best_response", 4), ("best_response, seed 5", 5)]
    assert [(wanted.name, wanted.seed) for wanted in ladder._wanted("erase", config, wishes)] == [("erase", 4)]


def test_longer_training_has_its_own_steps_and_heads_and_is_made_once(tmp_path, monkeypatch):
    made, config = [], ladder.CONFIGS["resnet20_mnist"]

    def train_blocks(subject, method, training, **_):
        made.append((method, training))
        return (SimpleNamespace(write=lambda *_: None),)

    subject = SimpleNamespace(
        head=None, network=None, network_data={}, source=SOURCE, cache=None, cut_at=lambda cut: None
    )
    monkeypatch.setattr(ladder, "NetworkSubject", lambda *_: subject)
    monkeypatch.setattr(ladder, "train_blocks", train_blocks)
    monkeypatch.setattr(ladder, "training_settings", lambda method, subject, **given: TrainingSettings(**given))
    monkeypatch.setattr(ladder.TrainedDefence, "read", lambda name, *_: f"read {name}")

    def defence(name):
        (wanted,) = ladder._wanted(name, config, asked())
        return ladder._defence(wanted, subject, config, tmp_path, asked())

    defence("best_response, longer")
    assert defence("best_response, longer") == "read best_response, longer"
    defence("best_response")
    (longer, plain), (longer_training, plain_training) = zip(*made, strict=True)
    assert (longer_training.steps, plain_training.steps) == (600, None)
    names = [method.penalties[0].value.__qualname__ for method in (longer, plain)]
    assert names == ["explained by linear, kernel, whitened", "explained by linear, kernel"]


def test_augmented_views_are_for_the_training_and_not_for_attackers(tmp_path, monkeypatch):
    seen, config = [], ladder.CONFIGS["resnet20_mnist"]

    class Subject(SimpleNamespace):
        def __init__(self, source, cache):
            super().__init__(source=source, cache=cache, cut_at=lambda cut: None, network_data={})

    def train_blocks(subject, *_, **__):
        seen.append(subject.source.views)
        return (SimpleNamespace(write=lambda *_: None),)

    monkeypatch.setattr(ladder, "NetworkSubject", Subject)
    monkeypatch.setattr(ladder, "train_blocks", train_blocks)
    monkeypatch.setattr(ladder, "training_settings", lambda method, subject, **given: TrainingSettings(**given))
    monkeypatch.setattr(ladder.TrainedDefence, "read", lambda name, folder, subject, cut: subject.source.views)
    blocks = {"views": ladder.Blocks("best_response", "layer3.0", views=6)}
    (wanted,) = ladder._wanted("views", ladder.replace(config, blocks=blocks), asked())
    read = ladder._defence(wanted, Subject(SOURCE, None), ladder.replace(config, blocks=blocks), tmp_path, asked())
    assert (seen, read) == ([6], 1)


def test_the_command_of_a_record_makes_it_again():
    told = settings("--defences", "erase", "algorithm1 blocks", "--seeds", "2", "--sophon", "--out", "elsewhere")
    command = ladder._command("resnet20_mnist", told)
    assert "--defences erase 'algorithm1 blocks' --seeds 2" in command
    assert command.endswith("--sophon")
    assert "elsewhere" not in command
    assert "image-rows" not in command
