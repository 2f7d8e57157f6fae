"""`cimm export`: a finished run as a folder that a model hub takes; nothing is computed again."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cimm_jax.closed_form.head_refit import is_singular
from cimm_jax.closed_form.heads import Head
from cimm_jax.commands.settings import Export
from cimm_jax.data.tensor_file import FLOATS, MOST_WEIGHTS_BYTES, open_tensors, tensors_to_bytes
from cimm_jax.errors import InputError, naming, printable
from cimm_jax.files import read_regular, write_json, write_whole, written_folder
from cimm_jax.runs.defence import MapDefence
from cimm_jax.runs.places import named_only
from cimm_jax.runs.published_file import MAP_KEY, MODEL_FILE, NAME, map_metadata, read_told
from cimm_jax.runs.records import AttackRecord, ImmunizeRecord, LadderRecord
from cimm_jax.runs.run_folder import read_record, read_record_of
from cimm_jax.verbosity import Level, level
from cimm_jax.views.card import model_card
from cimm_jax.views.loading import extractor_loading, features_loading, network_loading
from cimm_jax.views.registry import part_of, refusing_contradictions
from cimm_jax.views.summary import summarise

__all__ = ["CARD_FILE", "MODEL_CONFIG_FILE", "PREPROCESSOR_FILE", "run_export"]

CARD_FILE, MODEL_CONFIG_FILE, PREPROCESSOR_FILE = "README.md", "config.json", "preprocessor_config.json"
"""As model hubs call them."""


class _Weights(NamedTuple):
    """What is published of a run.

    Attributes:
      content: of the file.
      settings: other files, by name.
      loading: how it is loaded, in Markdown.
    """

    content: bytes
    settings: dict[str, dict]
    loading: str


def run_export(settings: Export) -> None:
    """Reads a run, and writes weights, settings and model card, all or nothing.

    Raises:
      InputError: if it is no run of `cimm immunize`, lacks what is published, or the folder has other files.
    """
    if settings.run is None:
        raise InputError(
            "run: none given; give the --out folder of cimm immunize, as in: cimm export runs/latest --to mine"
        )
    if settings.to is None:
        raise InputError("to: none given; name a new folder for what is published")
    with naming("run", "runs"):
        record = read_record_of(settings.run, ImmunizeRecord)
    networked = record.network is not None
    weights = _of_network(settings, record) if networked else _of_features(settings, record)
    with written_folder(settings.to, "--to") as folder:
        card = _card(settings.run, record, settings.attacks, weights.loading)
        write_whole(folder / MODEL_FILE, weights.content, "--to")
        for name, content in weights.settings.items():
            write_json(folder / name, content, "--to")
        write_whole(folder / CARD_FILE, card, "--to")
    if level() is not Level.QUIET:
        print(*(printable(str(settings.to / name)) for name in (MODEL_FILE, *weights.settings, CARD_FILE)), sep="\n")


def _of_network(settings: Export, record: ImmunizeRecord) -> _Weights:
    """The file of the run, and what its header says of the network."""
    assert settings.run is not None
    assert record.network is not None
    if settings.head is not None:
        raise InputError("head: is for maps of own features, and the network's own is inside; leave it out")
    path = settings.run / MODEL_FILE
    told = read_told(path)
    if (told.base_sha256, told.has_map) != (record.network.weights_sha256, record.training is None):
        raise InputError(f"run: {path} is not what the run beside it made; immunize again")
    content = read_regular(path, "run", most=MOST_WEIGHTS_BYTES, cure="immunize again")
    files = {MODEL_CONFIG_FILE: told.config, PREPROCESSOR_FILE: told.preprocessor}
    if record.network.of_rows:
        return _Weights(content, {MODEL_CONFIG_FILE: told.config}, extractor_loading())
    return _Weights(content, files, network_loading(told.head, has_map=told.has_map))


def _of_features(settings: Export, record: ImmunizeRecord) -> _Weights:
    """The map, float32, and the head behind it if one is given."""
    assert settings.run is not None
    with naming("run", "runs"):
        theta = np.asarray(MapDefence.read(settings.run.name, settings.run).theta)
    tensors, name = {MAP_KEY: np.ascontiguousarray(theta.T, np.float32)}, ""
    if settings.head is not None:
        name, head, has_bias = _read_head(settings.head, len(theta))
        if is_singular(theta):
            raise InputError(
                f"head: the map of {record.method} has no inverse that a head could absorb; leave it out, and fit one on "
                "protected features"
            )
        with naming("head", "theta"):
            kernel, bias = head.absorbed(theta)
        tensors[f"{name}.weight"] = np.ascontiguousarray(kernel.T)
        tensors |= {f"{name}.bias": bias} if has_bias else {}
    content = tensors_to_bytes(tensors, {**map_metadata(record.method, name), "cimm_jax.map": MAP_KEY})
    return _Weights(content, {}, features_loading(name))


def _read_head(path: Path, features: int) -> tuple[str, Head, bool]:
    """A head's name, its arrays, and whether it has a bias; raises `InputError` if the file has none for so many features."""
    with open_tensors(
        path, "head", most=MOST_WEIGHTS_BYTES, cure="give a safetensors file with the head alone"
    ) as file:
        keys = [key for key in file.tensors if key.rpartition(".")[2] == "weight"]
        prefix = keys[0].removesuffix("weight") if len(keys) == 1 else ""
        surplus = set(file.tensors) - {f"{prefix}weight", f"{prefix}bias"}
        described = {key: file.tensors[key] for key in file.tensors if key not in surplus}
        named = len(keys) == 1 and not surplus and NAME.fullmatch(keys[0])
        if not named or any(of.dtype not in FLOATS for of in described.values()):
            raise InputError(
                f"head: {path} needs one weight and at most its bias, floats, such as fc.weight and fc.bias"
            )
        weight, bias = file.array(keys[0]), file.array(f"{prefix}bias") if f"{prefix}bias" in described else None
    outputs = len(weight)
    if weight.shape != (outputs, features) or (bias is not None and bias.shape != (outputs,)):
        shapes = " and ".join(str(array.shape) for array in (weight, bias) if array is not None)
        raise InputError(
            f"head: {path} has {shapes}, needs (outputs, {features}) and (outputs,); give the head of these features"
        )
    head = Head(weight.T.astype(np.float64), np.zeros(outputs) if bias is None else bias.astype(np.float64))
    return prefix.removesuffix(".") or "head", head, bias is not None


def _card(run: Path, record: ImmunizeRecord, attacks: tuple[Path, ...], loading: str) -> str:
    """The model card, without the folders of this machine."""
    records = [record, *(_read_attack(folder, record) for folder in attacks)]
    folders = [folder.resolve().name for folder in (run, *attacks)]
    shown = [replace(one, source=named_only(one.source)) for one in records]
    with refusing_contradictions(" and ".join(folders)):
        parts = [part_of(one, folder) for one, folder in zip(shown, folders, strict=True)]
        return model_card(shown, summarise(shown), parts, loading)


def _read_attack(folder: Path, run: ImmunizeRecord) -> AttackRecord | LadderRecord:
    with naming("attacks", "runs"):
        record = read_record(folder)
    if not isinstance(record, AttackRecord | LadderRecord):
        raise InputError(f"attacks: {folder} is no run of cimm attack; give folders of that")
    if (record.network, record.names[:2]) != (run.network, run.names[:2]):
        raise InputError(f"attacks: {folder} is of other tasks or another network than the run; give attacks on it")
    return record
