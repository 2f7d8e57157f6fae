"""A run that somebody else made: its record names files, and only those are read that it was made from; none is written."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commands.network_runs import immunize_map, printed
from networks.small_networks import NETWORK
from PIL import Image
from safetensors.numpy import load_file, save_file
from sample_records import immunize_record

from cimm_jax.commands import attack as attack_command
from cimm_jax.commands import cli
from cimm_jax.errors import InputError
from cimm_jax.runs.records import ImmunizeRecord
from cimm_jax.runs.run_folder import read_record_of, write_record
from cimm_jax.runs.source import DataSource
from cimm_jax.runs.trained_defence import TrainedDefence

pytestmark = pytest.mark.usefixtures("standard_promotion", "small_network")

CLASSES = ("class2", "class0")


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    """A run of two harmful classes, which a file named."""
    root = tmp_path_factory.mktemp("runs")
    (root / "classes.txt").write_text("\n".join(CLASSES))
    printed(immunize_map, inputs, root / "deep", "--harmful-classes", str(root / "classes.txt"))
    (root / "classes.txt").unlink()
    return root / "deep"


@pytest.fixture
def received(run, tmp_path):
    """A copy whose record says something else."""

    def write(**changes):
        record = read_record_of(run, ImmunizeRecord)
        shutil.copytree(run, tmp_path / "deep", dirs_exist_ok=True)
        write_record(tmp_path / "deep", replace(record, source=replace(record.source, **changes)))
        return tmp_path / "deep"

    return write


@pytest.fixture
def moved(inputs, tmp_path):
    """All files in another place, and the settings that say so."""
    copy = shutil.copytree(inputs, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("cache"))
    weights = (copy / "small.safetensors").rename(copy / "w.safetensors")
    return ["--weights", str(weights), "--primary", str(copy / "primary"), "--harmful", str(copy / "harmful")]


def attack(inputs, folder, *more):
    short = ["--attackers", "line_search", "--attack-steps", "20", "--harmful-only", "--cache", str(inputs / "cache")]
    return cli.main(["attack", str(folder), *short, *more, "--out", str(folder.parent / "out")])


def refused(inputs, capsys, folder, *more) -> str:
    assert attack(inputs, folder, *more) == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1
    assert not (folder.parent / "out").exists()
    return message


def test_classes_that_a_file_named_are_recorded_by_name(run):
    assert read_record_of(run, ImmunizeRecord).source.harmful_classes == CLASSES


def test_a_run_is_attacked_where_its_files_were(inputs, received):
    assert attack(inputs, received()) == 0


def test_files_may_be_elsewhere_if_the_command_line_says_where(inputs, received, moved, capsys):
    folder = received(weights=Path("gone.safetensors"), primary="gone/p", harmful="gone/h")
    assert "weights: gone.safetensors cannot be read" in refused(inputs, capsys, folder)
    assert "primary: gone/p is not a folder" in refused(inputs, capsys, folder, *moved[:2])
    assert attack(inputs, folder, *moved) == 0


def test_other_weights_than_the_run_was_made_from_are_refused(inputs, received, moved, capsys):
    weights = Path(moved[1])
    tensors = load_file(weights)
    save_file({**tensors, "linear.bias": tensors["linear.bias"] + 1}, weights)
    told = "runs: deep was made from other data, weights differ; say with --weights, --primary and --harmful where its own are"
    assert told in refused(inputs, capsys, received(), *moved)
    assert told in refused(inputs, capsys, received(weights=weights)), "whoever says so"


@pytest.mark.parametrize("task", ["primary", "harmful"])
def test_other_images_than_the_run_was_made_from_are_refused(inputs, received, moved, capsys, task):
    path = Path(moved[3 if task == "primary" else 5]) / "train/class0/0.jpg"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    assert f"made from other data, {task}.train differ" in refused(inputs, capsys, received(), *moved)


def test_a_record_cannot_have_a_file_of_names_read(inputs, received, tmp_path, capsys):
    (tmp_path / "secret").write_text("one\ntwo\n")
    folder = received(harmful_classes=(str(tmp_path / "secret"),))
    message = refused(inputs, capsys, folder)
    assert "as harmful_classes, which needs two" in message
    assert "one" not in message.replace(str(tmp_path), "")


@pytest.mark.parametrize("task", ["primary", "harmful"])
def test_a_record_cannot_have_a_folder_opened_that_says_what_to_import(inputs, received, tmp_path, capsys, task):
    folder = received(**{task: f"tfds:photos@{tmp_path}"})
    assert f"{task}: the record names tfds:photos@{tmp_path}; give it again" in refused(inputs, capsys, folder)
    message = refused(inputs, capsys, folder, f"--{task}", f"tfds:photos@{tmp_path}")
    assert "TensorFlow Datasets cannot open photos" in message


def test_a_record_cannot_have_a_pipe_read(inputs, received, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    assert "cannot be read (no regular file)" in refused(inputs, capsys, received(weights=tmp_path / "pipe"))


@pytest.mark.parametrize("key", ["linear.weight", "layer3.0.bn2.running_var"])
def test_a_network_of_a_run_has_numbers_in_all_of_its_tensors(inputs, tmp_path, key):
    tensors = load_file(inputs / "small.safetensors")
    tensors[key].reshape(-1)[0] = np.nan if key == "linear.weight" else -1
    save_file(tensors, tmp_path / "model.safetensors")
    subject: Any = SimpleNamespace(network=SimpleNamespace(config=NETWORK))
    with pytest.raises(InputError, match=rf"^runs: {tmp_path}/model\.safetensors has .* in {re.escape(key)}; "):
        TrainedDefence.read("blocks", tmp_path, subject, "layer3.0")


def test_nothing_is_written_where_a_record_says(inputs, received, tmp_path):
    folder = received()
    record = read_record_of(folder, ImmunizeRecord)
    places = {name: str(tmp_path / "chosen" / name) for name in ("cache", "out")}
    settings = {**record.manifest.settings, **places}
    write_record(folder, replace(record, manifest=replace(record.manifest, settings=settings)))
    assert attack(inputs, folder) == 0
    assert not (tmp_path / "chosen").exists()


@pytest.mark.parametrize("given", [[], ["--data-dir", "here"]], ids=["as the record says", "as the person says"])
def test_tables_are_those_of_the_run_unless_the_command_line_names_them(tmp_path, monkeypatch, capsys, given):
    record = replace(immunize_record(), source=DataSource("house_prices", Path("there")))
    (tmp_path / "run").mkdir()
    write_record(tmp_path / "run", record)
    opened = []

    def open_subject(source, cache):
        opened.append(source.data_dir)
        nothing = lambda _: None  # noqa: E731
        other = {**record.manifest.data_sha256, "train.primary.x": "another"}
        return SimpleNamespace(source=source, check_loss=nothing, check_batch_size=nothing, checksums=lambda: other)

    monkeypatch.setattr(attack_command, "open_subject", open_subject)
    assert cli.main(["attack", str(tmp_path / "run"), *given, "--out", str(tmp_path / "out")]) == 2
    told = "run was made from other data, train.primary.x differ; say with --data-dir where its own are"
    message = capsys.readouterr().err
    assert (told in message) == (not given)
    assert ("theta.safetensors" in message) == bool(given), "what comes next"
    assert opened == [Path("here" if given else "there")]
