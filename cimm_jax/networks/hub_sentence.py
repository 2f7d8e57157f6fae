"""Sentence encoders of BERT's architecture from checkpoint folders, as the sentence-transformers library writes them.

    config.json                  the network
    sentence_bert_config.json    the longest text; without it, as many tokens as there are positions
    modules.json                 what follows the network, in order: pooling, perhaps a normalisation
    1_Pooling/config.json        what becomes the features; without it, the mean of the tokens

A folder of the transformers library alone, without the last three, is the mean of the tokens as they are.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cimm_jax.data.tensor_file import Described
from cimm_jax.errors import InputError, one_line
from cimm_jax.files import read_regular
from cimm_jax.networks.bert import BertConfig, Readout
from cimm_jax.networks.json_fields import MOST_BYTES, MOST_LAYERS, Fields, read_fields
from cimm_jax.networks.layers import ACTIVATIONS
from cimm_jax.networks.tensor_names import prefix_of
from cimm_jax.networks.tokens import Tokens
from cimm_jax.networks.transformer import BlockSettings

__all__ = ["DEFINING", "hub_bert"]

_LENGTH, _MODULES, _POOLING = "sentence_bert_config.json", "modules.json", "1_Pooling/config.json"

DEFINING = (_LENGTH, _MODULES, _POOLING)
"""Files that say what the network is, beside config.json."""

_MOST_WORDS = 1 << 20
_CURE = "copy it from the publisher"
_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "class"}


def hub_bert(fields: Fields, tensors: Mapping[str, Described], folder: Path) -> BertConfig:
    """The configuration of a checkpoint.

    Args:
      fields: of config.json.
      tensors: what the weights hold.
      folder: where the other files are.

    Raises:
      InputError: if a field is missing or means something that there is not here, such as another pooling.
    """
    fields.word("position_embedding_type", ("absolute",), "absolute")
    width, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    if width % heads:
        raise fields.unfit("num_attention_heads", f"a divisor of hidden_size, {width}")
    positions = fields.count("max_position_embeddings")
    length, readout = positions, "mean"
    if (folder / _LENGTH).exists():
        length = read_fields(folder / _LENGTH, cure=_CURE).count("max_seq_length", positions, most=positions)
    if (folder / _POOLING).exists():
        readout = _readout(read_fields(folder / _POOLING, cure=_CURE))
    return BertConfig(
        positions=positions,
        depth=fields.count("num_hidden_layers", most=MOST_LAYERS),
        block=BlockSettings(
            width,
            heads,
            fields.count("intermediate_size"),
            fields.number("layer_norm_eps", 1e-12),
            activation=fields.word("hidden_act", tuple(ACTIVATIONS), "gelu"),
        ),
        preprocess=Tokens(length, fields.count("vocab_size", most=_MOST_WORDS)),
        readout=readout,
        unit="Normalize" in _modules(folder / _MODULES),
        kinds=fields.count("type_vocab_size", 2),
        prefix=prefix_of(tensors, "embeddings.word_embeddings.weight", ("", "bert.")),
    )


def _readout(pooling: Fields) -> Readout:
    modes = [name for name in pooling.content if name.startswith("pooling_mode_") and pooling.flag(name, False)]
    if len(modes) != 1 or modes[0] not in _MODES:
        named = " and ".join(modes) or "nothing"
        raise InputError(f"model: {pooling.where} pools by {named}, which is unknown; known are {' or '.join(_MODES)}")
    return "mean" if _MODES[modes[0]] == "mean" else "class"


def _modules(path: Path) -> tuple[str, ...]:
    """Kinds of what the network consists of; nothing if the file is not there."""
    if not path.exists():
        return ()
    content = read_regular(path, "model", most=MOST_BYTES, cure=_CURE)
    try:
        found: Any = json.loads(content.decode())
        kinds = tuple(str(one["type"]).rpartition(".")[2] for one in found)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"model: {path} is no list of modules ({one_line(error)}); {_CURE}") from error
    if kinds not in (("Transformer", "Pooling"), ("Transformer", "Pooling", "Normalize")):
        raise InputError(
            f"model: {path} has {', '.join(kinds)[:100]}; read are Transformer, Pooling and perhaps Normalize"
        )
    return kinds
