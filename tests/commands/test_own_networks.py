"""`cimm immunize --model` with a checkpoint folder and with a file of one's own, and `cimm attack` on these runs."""

import contextlib
import io
import shutil

import jax
import numpy as np
import pytest
from networks.hub_folders import HUB, edit, variant
from networks.test_own_network import FUNCTION
from safetensors.numpy import load_file, save_file

from cimm_jax.commands import cli
from cimm_jax.errors import InputError
from cimm_jax.networks import functional
from cimm_jax.runs.network_subject import NetworkSubject
from cimm_jax.runs.records import AttackRecord, ImmunizeRecord
from cimm_jax.runs.run_folder import read_record_of
from cimm_jax.runs.source import NetworkSource
from cimm_jax.runs.trained_defence import TrainedDefence

pytestmark = pytest.mark.usefixtures("standard_promotion")

QUICK = ["--attackers", "line_search", "--attack-steps", "5", "--harmful-only"]


def run(*words):
    """The exit status, and what was printed on both streams."""
    shown, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(told):
        status = cli.main([str(word) for word in words])
    return status, shown.getvalue(), told.getvalue()


def immunized(inputs, out, *more, method="pencil"):
    tasks = ["--primary", inputs / "primary", "--harmful", inputs / "harmful", "--cache", inputs / "cache"]
    return run("immunize", *tasks, "--method", method, *more, "--out", out)


def attacked(inputs, folder, *more):
    return run("attack", folder, *QUICK, "--cache", inputs / "cache", *more, "--out", folder.parent / "attack")


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    """A vision transformer without a head."""
    return shutil.copytree(HUB / "vit", tmp_path_factory.mktemp("hub") / "my-tower")


@pytest.fixture(scope="module")
def made(inputs, tower, tmp_path_factory):
    """The run of a map behind it, and what was printed."""
    folder = tmp_path_factory.mktemp("runs") / "map"
    status, shown, told = immunized(inputs, folder, "--model", tower, "--budget", "1e3")
    assert status == 0, told
    return folder, shown


def test_a_tower_of_the_hub_gets_a_head_and_a_map(made, tower):
    folder, shown = made
    record = read_record_of(folder, ImmunizeRecord)
    assert (record.source.model, record.source.title) == (str(tower), "my-tower")
    assert record.source.weights == tower / "model.safetensors"
    assert (record.network.features, record.network.head_is_fitted) == (16, True)
    assert "none in the weights; fitted to the primary training images" in shown
    kept = record.kept["heldout"]
    assert kept.unchanged
    assert kept.accuracy_before > 0.8, "a head that fits"
    assert load_file(folder / "head.safetensors")["kernel"].shape == (16, 3)


def test_a_run_is_attacked_with_the_folder_where_it_is_now(inputs, made, tower, tmp_path):
    folder = shutil.copytree(made[0], tmp_path / "map")
    moved = shutil.copytree(tower, tmp_path / "moved")
    status, _, told = attacked(inputs, folder, "--model", moved)
    assert status == 0, told
    assert list(read_record_of(tmp_path / "attack", AttackRecord).extractors) == ["undefended", "map"]
    edit(moved / "preprocessor_config.json", image_mean=[0.1, 0.1, 0.1])
    status, _, told = attacked(inputs, folder, "--model", moved)
    assert (status, len(told.splitlines())) == (2, 1)
    assert "map was made from other data, network differ" in told


def test_trained_blocks_of_a_tower_are_written_as_its_publisher_has_them(inputs, tower, tmp_path):
    paths = {task: str(inputs / task) for task in ("primary", "harmful")}
    subject = NetworkSubject(NetworkSource(str(tower), tower / "model.safetensors", **paths), inputs / "cache")
    subject.cut_at("block1")
    parts = functional.split(subject.network, "block1")
    parts = parts._replace(tail=jax.tree.map(lambda array: 1.5 * array, parts.tail))
    trained = TrainedDefence("blocks", functional.merge(parts), "block1")
    assert trained.write(tmp_path, subject) == ("model.safetensors", "head.safetensors")
    before, after = load_file(tower / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys(), "with the pooler that nobody needs"
    changed = {key for key, tensor in before.items() if not np.array_equal(tensor, after[key])}
    assert "encoder.layer.1.intermediate.dense.weight" in changed
    assert all(key.startswith(("encoder.layer.1.", "layernorm.")) for key in changed)
    again = TrainedDefence.read("blocks", tmp_path, subject, "block1")
    for one, other in zip(again.kept(subject).values(), trained.kept(subject).values(), strict=True):
        assert one == other
    damaged = load_file(tmp_path / "head.safetensors")
    save_file({**damaged, "bias": damaged["bias"][:2]}, tmp_path / "head.safetensors")
    with pytest.raises(InputError, match=r"runs: .* has no kernel \(16, classes\) and bias \(classes,\)"):
        TrainedDefence.read("blocks", tmp_path, subject, "block1")


def test_a_function_of_tensors_is_immunized_and_run_again_only_if_it_is_named_again(inputs, tmp_path, rng):
    (tmp_path / "mine.py").write_text(FUNCTION)
    tensors = {"first.weight": (192, 6), "first.bias": (6,), "second": (6, 16)}
    weights = {name: rng.normal(size=shape).astype(np.float32) / 8 for name, shape in tensors.items()}
    save_file(weights, tmp_path / "w.safetensors")
    name, folder = f"{tmp_path}/mine.py:features", tmp_path / "map"
    given = ["--model", name, "--weights", tmp_path / "w.safetensors"]
    status, shown, told = immunized(inputs, folder, *given, "--budget", "1e3")
    assert status == 0, told
    assert "mine.py:features" in shown
    record = read_record_of(folder, ImmunizeRecord)
    assert record.network.definition_sha256 == record.manifest.versions[name]
    status, _, told = attacked(inputs, folder)
    assert (status, len(told.splitlines())) == (2, 1)
    assert f"--model: the record names {name}; give it again if that file is to be trusted" in told
    status, _, told = attacked(inputs, folder, "--model", name)
    assert status == 0, told


BAD = [
    (lambda root: root / "none", "is unknown; choose one of resnet18"),
    (
        lambda root: variant("vit", root / "swin", model_type="swin"),
        "is of the architecture 'swin', which is unknown; known are ",
    ),
    (lambda root: root, "has no weights; give a folder with model.safetensors"),
    (lambda root: f"{root}/none.py:network", "is needed with --model"),
]


@pytest.mark.parametrize(("model", "told"), BAD)
def test_what_is_no_network_is_refused_in_one_line(inputs, tmp_path, model, told):
    status, _, message = immunized(inputs, tmp_path / "out", "--model", model(tmp_path))
    assert (status, len(message.splitlines())) == (2, 1)
    assert told in message
    assert message.startswith(("cimm: --model: ", "cimm: --weights: "))


def test_a_head_of_other_classes_than_the_images_is_refused(inputs, tmp_path):
    tensors = load_file(HUB / "deit" / "model.safetensors")
    folder = shutil.copytree(HUB / "deit", tmp_path / "deit")
    for head in ("cls_classifier", "distillation_classifier"):
        tensors |= {f"{head}.{part}": np.repeat(tensors[f"{head}.{part}"], 2, axis=0) for part in ("weight", "bias")}
    save_file(tensors, folder / "model.safetensors")
    status, _, told = immunized(inputs, tmp_path / "out", "--model", folder)
    assert status == 2
    assert "has 3 classes and the head of deit 6; give the images that it was trained for" in told
