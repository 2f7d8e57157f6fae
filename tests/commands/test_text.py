"""A text network from texts to the ladder: a sentence encoder of random weights, and what is refused."""

import json

import jax
import numpy as np
import pytest
from commands.network_runs import printed
from data.text_examples import WordTokenizer, write_texts
from networks.small_networks import filled
from networks.text_networks import BERT
from safetensors.numpy import load_file

from cimm_jax.attacks.fine_tuners import FineTuners
from cimm_jax.attacks.fine_tuning import FineTuning
from cimm_jax.commands import cli
from cimm_jax.data import text_tokens
from cimm_jax.networks import NETWORKS
from cimm_jax.networks.weights import export_weights
from cimm_jax.runs import ladder_tuning
from cimm_jax.runs.records import ImmunizeRecord, LadderRecord
from cimm_jax.runs.run_folder import read_record_of

pytestmark = pytest.mark.usefixtures("standard_promotion")

TUNERS = (FineTuning("LoRA rank 2", "layer1", 2, "adamw", "solved", (1e-2,), batch_size=4),)


@pytest.fixture(autouse=True, scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "small_text", "networks.text_networks:BERT")
        patch.setattr(text_tokens, "_tokenizer", lambda path: WordTokenizer())
        patch.setattr(ladder_tuning, "standard_fine_tuners", lambda network, *, classes: FineTuners(TUNERS, ()))
        yield


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_texts(folder / "primary", ("ant", "bee", "cat"), count=8)
    write_texts(folder / "harmful", ("ant", "bee", "cat"), count=8)
    longer = folder / "harmful" / "train" / "ant.jsonl"
    longer.write_text(f"{longer.read_text()}\n{json.dumps('queen ' * 30)}")
    (folder / "weights").mkdir()
    export_weights(filled(BERT), folder / "weights" / "model.safetensors")
    (folder / "weights" / "tokenizer.json").write_text("{}")
    return folder


def immunize(inputs, out, *more):
    tasks = ["--primary", str(inputs / "primary"), "--harmful", str(inputs / "harmful"), "--reserve", "0.5"]
    model = ["--model", "small_text", "--weights", str(inputs / "weights"), "--cache", str(inputs / "cache")]
    return cli.main(["immunize", *model, *tasks, *more, "--out", str(out)])


def test_a_map_protects_and_says_what_it_saw(inputs, tmp_path):
    assert "fitted to the primary training texts" in printed(immunize, inputs, tmp_path, "--method", "erase")
    network = read_record_of(tmp_path, ImmunizeRecord).network
    assert (network.features, network.head_is_fitted) == (16, True)
    assert {name: part.images for name, part in network.harmful.items()} == {"train": 13, "heldout": 24}


@pytest.fixture(scope="module")
def runs(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    printed(immunize, inputs, folder / "erase", "--method", "erase")
    training = ["--method", "pencil", "--train-from", "layer1", "--epochs", "1", "--batch-size", "6"]
    printed(immunize, inputs, folder / "blocks", *training)
    settings = ["--images-a-class", "4", "--seeds", "1", "--judged", "12", "--tuning-steps", "2"]
    where = ["--cache", str(inputs / "cache"), "--out", str(folder / "ladder")]
    attacked = [str(folder / name) for name in ("erase", "blocks")]
    printed(cli.main, ["attack", *attacked, "--ladder", *settings, *where])
    return folder


@pytest.mark.slow
def test_layers_behind_the_cut_alone_are_trained(runs):
    before, after = (load_file(runs / name / "model.safetensors") for name in ("erase", "blocks"))
    moved = {key for key in after if key in before and not np.array_equal(before[key], after[key])}
    assert moved
    assert all("layer.1." in key for key in moved)


@pytest.mark.slow
def test_every_rung_is_climbed_with_adapters_on_attention(runs):
    record = read_record_of(runs / "ladder", LadderRecord)
    assert {one.rung for one in record.tried} == {0, 1, 2, 3, 4}
    assert {one.place for one in record.tried} >= {"embeddings", "layer0", "layer1", "features", "from layer1"}
    assert record.network.primary["train"].cut_texts == 0
    assert set(record.networks) == {"undefended", "erase", "blocks", "random weights"}


REFUSED = {
    "cuts with nothing behind them": (
        ["--train-from", "pool"],
        "--train-from: 'pool' is no cut with blocks behind it; choose one of embeddings, layer0, layer1\n",
    ),
    "too few tokens": (["--text-length", "3"], "--text-length: needs 16 to 20 tokens, as small_text takes, got 3"),
    "views": (["--views", "2"], "--views: are of images, and this network takes texts; leave it out"),
    "an empty choice": (["--harmful-classes", "ant"], "--harmful-classes: needs at least 2 names"),
    "no held-out part": (
        ["--primary", "ROOT/primary/train", "--harmful", "nowhere"],
        "--harmful: nowhere is not a folder",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_one_line(inputs, tmp_path, capsys, what):
    arguments, message = REFUSED[what]
    given = [word.replace("ROOT", str(inputs)) for word in arguments]
    assert immunize(inputs, tmp_path, "--method", "algorithm1", *given) == 2
    assert message in capsys.readouterr().err


def test_texts_that_were_cut_are_counted(inputs):
    from cimm_jax.runs.network_subject import NetworkSubject
    from cimm_jax.runs.source import NetworkSource
    from cimm_jax.views.tables import network_facts

    paths = (str(inputs / "primary"), str(inputs / "harmful"))
    subject = NetworkSubject(
        NetworkSource("small_text", inputs / "weights" / "model.safetensors", *paths), inputs / "cache"
    )
    assert subject.network_data.harmful["train"].cut_texts == 1
    (facts,) = network_facts(subject.network_data)
    assert (
        "harmful, training",
        "25 texts of 3 classes, 1 of them cut at the longest that the network is given",
    ) in facts.facts
    assert jax.tree.leaves(subject.published)[0].shape == (24, 16)
