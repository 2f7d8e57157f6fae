"""`cimm export`: folders for model hubs, of maps, trained blocks and own features, and what is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks.small_networks import NETWORK, filled
from prescribed import geometric, matrix
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from sample_records import (
    attack_record,
    immunize_record,
    network_attack_record,
    network_map_record,
    trained_blocks_record,
)

from cimm_jax.commands import cli
from cimm_jax.networks.weights import load_weights
from cimm_jax.runs.defence import MapDefence
from cimm_jax.runs.network_subject import NetworkSubject
from cimm_jax.runs.run_folder import write_record
from cimm_jax.runs.source import FeatureSource, NetworkSource
from cimm_jax.runs.trained_defence import TrainedDefence

pytestmark = pytest.mark.usefixtures("standard_promotion", "small_network")

D, CUT = 12, "layer3.0"
PLACES = {"primary": "/secret/p", "harmful": "/secret/h"}


@pytest.fixture(scope="module")
def subject(inputs):
    paths = {task: str(inputs / task) for task in ("primary", "harmful")}
    return NetworkSubject(NetworkSource("small", inputs / "small.safetensors", **paths), inputs / "cache")


@pytest.fixture(scope="module")
def theta():
    return matrix(np.random.default_rng(0), geometric(100, D))


@pytest.fixture(scope="module")
def runs(subject, theta, tmp_path_factory):
    """Run folders of a map, of trained blocks and of own features, with records made by hand."""
    root = tmp_path_factory.mktemp("runs")
    source = replace(subject.source, **PLACES, weights=Path("/secret/w.safetensors"))
    networked = {"source": source, "network": subject.network_data}
    features = FeatureSource(Path("/secret/p.npz"), Path("/secret/h.npz"))
    for name, defence, record in (
        ("map", MapDefence("pencil", theta), replace(network_map_record(), **networked)),
        (
            "blocks",
            TrainedDefence("algorithm1", filled(NETWORK, 1), CUT),
            replace(trained_blocks_record(), **networked),
        ),
        ("own", MapDefence("pencil", theta), replace(immunize_record(), source=features)),
    ):
        (root / name).mkdir()
        if name == "own":
            save_file({"theta": theta}, root / name / "theta.safetensors")
        else:
            assert defence.write(root / name, subject) == ("model.safetensors",)
        write_record(root / name, record)
    return root


def export(run, to, *more) -> int:
    return cli.main(["export", str(run), "--to", str(to), *map(str, more)])


def card_of(folder) -> str:
    """A card, which tells nobody about this machine."""
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: cimm_jax\n")
    assert "secret" not in card
    return card


def test_a_map_is_inside_the_one_file_and_the_header_says_how_it_was_made(runs, subject, theta, tmp_path, capsys):
    attack = replace(network_attack_record(), source=subject.source, network=subject.network_data)
    (tmp_path / "broken-by").mkdir()
    write_record(tmp_path / "broken-by", attack)
    assert export(runs / "map", tmp_path / "new/hub", "--attacks", tmp_path / "broken-by") == 0
    folder = tmp_path / "new/hub"
    names = ["model.safetensors", "config.json", "preprocessor_config.json", "README.md"]
    assert capsys.readouterr().out.splitlines() == [str(folder / name) for name in names]
    assert {path.name for path in folder.iterdir()} == set(names)
    assert (folder / "model.safetensors").read_bytes() == (runs / "map/model.safetensors").read_bytes()
    with safe_open(folder / "model.safetensors", "np") as file:
        told = file.metadata()
    assert (told["format"], told["cimm_jax.method"], told["cimm_jax.head"]) == ("pt", "pencil", "linear")
    assert told["cimm_jax.base_sha256"] == subject.network_data.weights_sha256
    assert {"cimm_jax", "jax"} <= json.loads(told["cimm_jax.versions"]).keys()
    tensors, original = load_file(folder / "model.safetensors"), load_file(subject.source.weights)
    assert tensors.keys() == original.keys() | {"immunization.weight"}
    for key in original.keys() - {"linear.weight"}:
        np.testing.assert_array_equal(tensors[key], original[key])
    mapping, head = tensors["immunization.weight"], tensors["linear.weight"]
    np.testing.assert_array_equal(mapping, theta.T.astype(np.float32))
    np.testing.assert_allclose(head @ mapping, original["linear.weight"], atol=1e-4)
    config = json.loads((folder / "config.json").read_text())
    assert (config["architecture"], config["num_classes"], config["num_features"]) == ("small", 3, D)
    assert config["immunization"] == {"weight": "immunization.weight", "before": "linear"}
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    assert (processor["size"], processor["image_mean"]) == ({"shortest_edge": 16}, [0.5] * 3)
    card = card_of(folder)
    for text in ("pipeline_tag: image-classification", "def load_immunized", "head `linear`", "## Attacks on"):
        assert text in card
    assert "No attacker was run" not in card


def test_the_same_run_writes_the_same_bytes(runs, subject, theta, tmp_path):
    MapDefence("pencil", theta).write(tmp_path, subject)
    assert (tmp_path / "model.safetensors").read_bytes() == (runs / "map/model.safetensors").read_bytes()


def test_trained_blocks_are_the_publisher_s_network_and_no_more(runs, inputs, tmp_path):
    assert export(runs / "blocks", tmp_path / "hub") == 0
    network = load_weights(NETWORK, tmp_path / "hub/model.safetensors")
    np.testing.assert_array_equal(network.head.kernel[...], filled(NETWORK, 1).head.kernel[...])
    with safe_open(tmp_path / "hub/model.safetensors", "np") as file:
        assert file.metadata()["cimm_jax.trained_from"] == CUT
    assert "immunization" not in json.loads((tmp_path / "hub/config.json").read_text())
    assert "load_immunized" not in card_of(tmp_path / "hub")


@pytest.mark.parametrize(("prefix", "bias"), [("fc.", True), ("", False)])
def test_a_map_behind_own_features_takes_a_head_with_it(rng, runs, theta, tmp_path, prefix, bias):
    head = {f"{prefix}weight": rng.normal(size=(3, D)).astype(np.float32)}
    head |= {f"{prefix}bias": rng.normal(size=3).astype(np.float32)} if bias else {}
    save_file(head, tmp_path / "head.safetensors")
    assert export(runs / "own", tmp_path / "hub", "--head", tmp_path / "head.safetensors") == 0
    tensors, name = load_file(tmp_path / "hub/model.safetensors"), prefix or "head."
    assert tensors.keys() == {"immunization.weight", f"{name}weight", *([f"{name}bias"] if bias else [])}
    np.testing.assert_allclose(tensors[f"{name}weight"] @ theta.T, head[f"{prefix}weight"], atol=1e-4)
    if bias:
        np.testing.assert_array_equal(tensors["fc.bias"], head["fc.bias"])
    (code,) = re.findall(r"```python\n(.*?)```", card_of(tmp_path / "hub"), flags=re.DOTALL)
    assert f'weights["{name}weight"]' in code
    assert {path.name for path in (tmp_path / "hub").iterdir()} == {"model.safetensors", "README.md"}


def test_without_a_head_there_is_the_map_alone(runs, theta, tmp_path):
    assert export(runs / "own", tmp_path / "hub") == 0
    (found,) = load_file(tmp_path / "hub/model.safetensors").items()
    assert found[0] == "immunization.weight"
    np.testing.assert_array_equal(found[1], theta.T.astype(np.float32))
    assert "Heads are fitted on protected features" in card_of(tmp_path / "hub")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "run: none given; give the --out folder of cimm immunize"),
        (["map"], "--to: none given"),
        (["gone", "--to", "new"], "run: gone/results.json cannot be read (No such file or directory)"),
        (["attack", "--to", "new"], "run: attack is a run of cimm attack; give folders of cimm immunize"),
        (["old", "--to", "new"], "run: old/model.safetensors cannot be read"),
        (["plain", "--to", "new"], "run: plain/model.safetensors does not say how it was made"),
        (["other", "--to", "new"], "run: other/model.safetensors has another header than we write"),
        (["mixed", "--to", "new"], "run: mixed/model.safetensors is not what the run beside it made"),
        (
            ["map", "--to", "map"],
            "--to: map has other files, model.safetensors, results.json, theta.safetensors; choose",
        ),
        (["map", "--to", "head.safetensors"], "--to: head.safetensors is a file"),
        (["map", "--to", "new", "--head", "head.safetensors"], "--head: is for maps of own features"),
        (["own", "--to", "new", "--head", "gone"], "--head: gone cannot be read"),
        (["own", "--to", "new", "--head", "map/model.safetensors"], "--head: map/model.safetensors needs one weight"),
        (
            ["own", "--to", "new", "--head", "narrow.safetensors"],
            "--head: narrow.safetensors has (3, 5), needs (outputs, 12)",
        ),
        (["singular", "--to", "new", "--head", "head.safetensors"], "--head: the map of algorithm1 has no inverse"),
        (["map", "--to", "new", "--attacks", "map"], "--attacks: map is no run of cimm attack"),
        (["map", "--to", "new", "--attacks", "attack"], "--attacks: attack is of other tasks or another network"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(runs, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(runs)
    for name, record in (("attack", attack_record()), ("old", network_map_record()), ("plain", network_map_record())):
        Path(name).mkdir(exist_ok=True)
        write_record(Path(name), record)
    for name in ("mixed", "other", "singular"):
        Path(name).mkdir(exist_ok=True)
        write_record(Path(name), immunize_record() if name == "singular" else network_map_record())
    Path("mixed/model.safetensors").write_bytes(Path("map/model.safetensors").read_bytes())
    save_file({"immunization.weight": np.eye(D)}, "plain/model.safetensors")
    header = dict.fromkeys(("method", "head", "base_sha256", "config", "preprocessor_config"), "[]")
    save_file({"x": np.eye(D)}, "other/model.safetensors", {f"cimm_jax.{name}": text for name, text in header.items()})
    save_file({"theta": np.diag(np.arange(float(D)))}, "singular/theta.safetensors")
    save_file({"fc.weight": np.ones((3, D))}, "head.safetensors")
    save_file({"fc.weight": np.ones((3, 5))}, "narrow.safetensors")
    assert cli.main(["export", *words]) == 2
    message = capsys.readouterr().err
    assert told in message
    assert len(message.splitlines()) == 1
    assert not Path("new").exists()
    assert not list(Path().glob(".new*"))
