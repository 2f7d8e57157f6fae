"""Every loader with a small whole file, what must come of it, and how it may be damaged."""

import csv
import gzip
import hashlib
import io
import json
import shutil
import struct
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from data.feature_examples import WRITERS
from fuzz.damage import (
    ANYWHERE,
    Damage,
    rearchived,
    rechecked,
    reworded,
    rewritten,
    spliced_with,
    with_other_header,
    with_other_numbers,
)
from networks.hub_folders import HUB
from networks.hub_folders import NAMES as HUB_NAMES
from networks.small_networks import NETWORK, SMALL, filled
from pages import page_and_card, undrawn
from PIL import Image
from safetensors.numpy import save
from sample_records import report_record, shown_records

from cimm_jax.data.class_list import read_class_list
from cimm_jax.data.feature_files import read_features
from cimm_jax.data.house_prices import load_benign_houses, load_house_prices
from cimm_jax.data.image_sources import load_images
from cimm_jax.data.mnist import FILES, load_mnist
from cimm_jax.data.tensor_file import tensors_to_bytes
from cimm_jax.networks.hub_folder import hub_config
from cimm_jax.networks.weight_files import open_checkpoint
from cimm_jax.networks.weights import export_weights, load_weights
from cimm_jax.runs.codec import encode
from cimm_jax.runs.defence import MapDefence
from cimm_jax.runs.published_file import read_told
from cimm_jax.runs.records import ReportRecord
from cimm_jax.runs.run_folder import RESULTS_FILE, command_of, read_record, write_record
from cimm_jax.views.registry import claims_of, refusing_contradictions

KINDS = [kind for kind in WRITERS if kind != "parquet" or find_spec("pyarrow")]
IMAGES = ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm")


class Loader(NamedTuple):
    """A loader and its file.

    Attributes:
      path: the file that is damaged.
      whole: what it holds.
      load: reads it, or raises `InputError`.
      check: fails unless what was read is usable; it is given what the whole file holds, too.
      damages: what may happen to the file.
    """

    path: Path
    whole: bytes
    load: Callable[[], Any]
    check: Callable[[Any, Any], None]
    damages: tuple[Damage, ...]


def mnist(folder: Path, packed: bool) -> Loader:
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(0, 256, (5, 28, 28)),
        rng.integers(0, 10, 5),
        rng.integers(0, 256, (4, 28, 28)),
        rng.integers(0, 10, 4),
    ]
    files = []
    for file, array in zip(FILES, arrays, strict=True):
        content = (
            bytes([0, 0, 8, array.ndim])
            + struct.pack(f">{array.ndim}I", *array.shape)
            + array.astype(np.uint8).tobytes()
        )
        files.append(file._replace(sha256=hashlib.sha256(content).hexdigest()))
        (folder / f"{file.name}{'.gz' * packed}").write_bytes(gzip.compress(content) if packed else content)
    path = folder / f"{FILES[0].name}{'.gz' * packed}"
    bomb = gzip.compress(bytes(200_000_000))
    more = (lambda content, rng: bomb[: rng.integers(len(bomb))] if rng.integers(2) else bomb,) if packed else ()
    return Loader(path, path.read_bytes(), lambda: load_mnist(folder, files=files), equal, (*ANYWHERE, *more))


def cifar(folder: Path) -> Loader:
    rng, path = np.random.default_rng(0), folder / "images.npz"
    x, y = rng.integers(0, 256, (4, 32, 32, 3)).astype(np.uint8), np.array([3, 1, 0, 9], np.uint8)
    np.savez(path, x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])

    def check(found: Any, _: Any) -> None:
        for part in found:
            usable_images(part, 32)

    return Loader(path, path.read_bytes(), lambda: load_images(path, size=32), check, (*ANYWHERE, *[rearchived] * 6))


def images(folder: Path, kind: str) -> Loader:
    rng, contents = np.random.default_rng(0), {}
    exif = Image.Exif()
    exif[274] = 6
    for name in IMAGES:
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)).save(file, name, exif=exif)
        contents[name] = file.getvalue()
    for name in ("ant", "bee"):
        (folder / "train" / name).mkdir(parents=True)
        (folder / "train" / name / "whole.png").write_bytes(contents["png"])
    path = folder / "train/ant" / f"damaged.{kind}"
    more = (*[rechecked] * 4,) if kind == "png" else ()

    def check(found: Any, _: Any) -> None:
        usable_images(found.train, 8)
        assert len(found.train) + len(found.train.skipped) == 3
        assert all(text.isprintable() and str(folder) not in text for text in found.train.skipped)

    damages = (*ANYWHERE, spliced_with(list(contents.values())), *more)
    return Loader(path, contents[kind], lambda: load_images(folder, size=8), check, damages)


def houses(folder: Path) -> Loader:
    rng = np.random.default_rng(0)
    zones = rng.permutation(["RL"] * 1151 + ["RM"] * 309)
    columns: dict[str, Any] = {"Id": range(1460), "MSZoning": zones, "LotArea": rng.integers(1000, 9000, 1460)}
    columns["Masonry"] = rng.choice(["None", "NA", "Brick"], 1460)
    columns["OverallQual"] = rng.integers(1, 10, 1460)
    while len(columns) < 80:
        columns[f"N{len(columns)}"] = rng.integers(0, 9, 1460)
    columns["SalePrice"] = rng.integers(50_000, 500_000, 1460)
    text = io.StringIO()
    csv.writer(text).writerows([list(columns), *zip(*columns.values(), strict=True)])
    path = folder / "train.csv"

    def check(found: Any, _: Any) -> None:
        for leaf in jax.tree.leaves(found):
            assert leaf.dtype == np.float64
            assert np.isfinite(leaf).all()
        assert found[0].train.primary.x.shape == (200, 79)

    def load() -> Any:
        return load_house_prices(folder), load_benign_houses(folder)

    return Loader(path, text.getvalue().encode(), load, check, (*ANYWHERE, *[reworded] * 8))


def features(folder: Path, kind: str) -> Loader:
    y = {"y": None} if kind == "npy" else {}
    path = WRITERS[kind](folder / f"a.{kind}", **y)

    def check(found: Any, _: Any) -> None:
        for table in (found.train, *([] if found.heldout is None else [found.heldout])):
            assert table.x.ndim == 2
            assert table.x.dtype in (np.float32, np.float64)
            assert np.isfinite(table.x).all()
            assert table.labels is None or table.labels.shape == (len(table.x),)

    more = {"npz": (*[rearchived] * 4,), "csv": (*[reworded] * 6,), "safetensors": (*[with_other_header] * 4,)}
    return Loader(
        path, path.read_bytes(), lambda: read_features(path, "primary"), check, (*ANYWHERE, *more.get(kind, ()))
    )


def weights(folder: Path, name: str) -> Loader:
    config = NETWORK if name == "resnet" else SMALL["linear"]
    whole = export_weights(filled(config), folder / "whole.safetensors").read_bytes()
    other = save({"theta": np.eye(3)})

    def check(found: Any, _: Any) -> None:
        from flax import nnx

        for path, value in nnx.to_flat_state(nnx.state(found)):
            assert np.isfinite(value[...]).all()
            assert path[-1] != "var" or (value[...] >= 0).all()

    path = folder / "model.safetensors"
    damages = (*ANYWHERE, *[with_other_header] * 4, *[with_other_numbers] * 4, spliced_with([other]))
    return Loader(path, whole, lambda: load_weights(config, path), check, damages)


def hub(folder: Path, name: str, file: str) -> Loader:
    """A checkpoint folder; of its files the one is damaged that says what the network is, or what images go through."""
    shutil.copytree(HUB / name, folder / name)

    def load() -> Any:
        return hub_config(folder / name, folder / name / "model.safetensors")

    def check(found: Any, _: Any) -> None:
        of = found.preprocess
        pixels = of(of.fit(np.zeros((9, 12, 3), np.uint8), of.size)[None])
        assert np.isfinite(np.asarray(pixels)).all()
        assert all(len({entry.key for entry in known.entries(found)}) > 5 for known in found.key_maps)

    path = folder / name / file
    return Loader(path, path.read_bytes(), load, check, (*ANYWHERE, *[rewritten] * 10))


def index(folder: Path) -> Loader:
    tensors = {name: np.ones(3, np.float32) for name in "abc"}
    for file, names in {"1.safetensors": "ab", "2.safetensors": "c"}.items():
        (folder / file).write_bytes(save({name: tensors[name] for name in names}))
    whole = {"metadata": {}, "weight_map": {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}
    path = folder / "model.safetensors.index.json"

    def load() -> Any:
        with open_checkpoint(path) as found:
            return {name: found.array(name) for name in found.tensors}

    def check(found: Any, _: Any) -> None:
        assert found
        assert all(np.array_equal(array, tensors[name]) for name, array in found.items())

    return Loader(path, json.dumps(whole).encode(), load, check, (*ANYWHERE, *[rewritten] * 10))


def theta(folder: Path) -> Loader:
    whole = save({"theta": np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)})

    def check(found: Any, _: Any) -> None:
        assert found.theta.dtype == np.float64
        assert found.theta.ndim == 2
        assert found.theta.shape[0] == found.theta.shape[1]
        assert np.isfinite(found.theta).all()

    damages = (*ANYWHERE, *[with_other_header] * 5, *[with_other_numbers] * 3)
    return Loader(folder / "theta.safetensors", whole, lambda: MapDefence.read("run", folder), check, damages)


def published(folder: Path) -> Loader:
    told = {"config": "{}", "preprocessor_config": '{"size": 3}'}
    told |= dict.fromkeys(("method", "head", "base_sha256"), "fc")
    whole = tensors_to_bytes({"fc.weight": np.eye(4)}, {f"cimm_jax.{name}": text for name, text in told.items()})

    def check(found: Any, _: Any) -> None:
        assert all(isinstance(text, str) for text in (found.method, found.head, found.base_sha256))
        assert isinstance(found.config, dict)
        assert isinstance(found.preprocessor, dict)

    path = folder / "model.safetensors"
    return Loader(path, whole, lambda: read_told(path), check, (*ANYWHERE, *[with_other_header] * 5))


def classes(folder: Path) -> Loader:
    path = folder / "names.txt"

    def check(found: Any, _: Any) -> None:
        assert len(set(found.names)) == len(found.names) > 1
        assert all(name == name.strip() != "" for name in found.names)

    def load() -> Any:
        return read_class_list([str(path)], renumbered=True, setting="harmful_classes")

    whole = "\n".join(f"class {number} é" for number in range(40)).encode()
    return Loader(path, whole, load, check, (*ANYWHERE, reworded))


def records(folder: Path, number: int) -> Loader:
    record = [*shown_records(), report_record()][number]

    def load() -> Any:
        command_of(folder)
        found = read_record(folder)
        if not isinstance(found, ReportRecord):
            with refusing_contradictions("run"), undrawn():
                page_and_card(found)
                claims_of(found)
        return found

    def check(found: Any, _: Any) -> None:
        write_record(folder, found)
        assert read_record(folder) == found

    whole = json.dumps(encode(record)).encode()
    return Loader(folder / RESULTS_FILE, whole, load, check, (*ANYWHERE, *[rewritten] * 10))


def equal(found: Any, whole: Any) -> None:
    """What has a checksum is the same, or refused."""
    jax.tree.map(np.testing.assert_array_equal, vars(found), vars(whole))


def usable_images(found: Any, size: int) -> None:
    """Bytes of pixels, each with a label of a class."""
    assert len(found) == len(found.pixels) == len(found.labels)
    assert found.labels.dtype == np.int64
    assert ((found.labels >= 0) & (found.labels < len(found.classes))).all()
    for index in range(len(found)):
        pixels = found.pixels[index]
        assert pixels.shape == (size, size, 3)
        assert pixels.dtype == np.uint8


LOADERS: dict[str, Callable[[Path], Loader]] = {
    "mnist": lambda folder: mnist(folder, packed=False),
    "mnist_packed": lambda folder: mnist(folder, packed=True),
    "cifar": cifar,
    **{f"images_{kind}": lambda folder, kind=kind: images(folder, kind) for kind in IMAGES},
    "houses": houses,
    **{f"features_{kind}": lambda folder, kind=kind: features(folder, kind) for kind in KINDS},
    "weights_resnet": lambda folder: weights(folder, "resnet"),
    "weights_linear": lambda folder: weights(folder, "linear"),
    **{f"hub_{name}": lambda folder, name=name: hub(folder, name, "config.json") for name in HUB_NAMES},
    "hub_preprocess": lambda folder: hub(folder, "clip", "preprocessor_config.json"),
    "weights_index": index,
    "theta": theta,
    "published": published,
    "classes": classes,
    **{f"results_{number}": lambda folder, number=number: records(folder, number) for number in range(10)},
}
