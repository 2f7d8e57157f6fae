"""`protect`: a pair of tasks in, a protected extractor out, judged, and ready to be saved as a run folder of the command."""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.commands.delivery import deliver, manifest_of
from cimm_jax.commands.immunize import Made, Prepared, defend, measured, prepare
from cimm_jax.commands.settings import EXTRACTOR, FEATURES
from cimm_jax.data.feature_table import FeatureParts
from cimm_jax.errors import InputError
from cimm_jax.files import write_whole
from cimm_jax.front.asking import ARRAYS, FILES, features_of, immunize_settings
from cimm_jax.locks import only_one_in
from cimm_jax.measures.definition import Verdict
from cimm_jax.runs.defence import MapDefence
from cimm_jax.runs.published import Published
from cimm_jax.runs.records import ImmunizeRecord
from cimm_jax.runs.subject import open_features
from cimm_jax.verbosity import Level, at_level, level
from cimm_jax.views.registry import part_of

__all__ = ["Protected", "protect"]


@dataclass(frozen=True, eq=False)
class Protected:
    """What protects a pair of tasks, from `protect`; printed, it is its verdict in one sentence.

    Attributes:
      record: everything that was measured, as `cimm immunize` writes it to results.json.
    """

    record: ImmunizeRecord
    _prepared: Prepared
    _made: Made
    _given: dict[str, FeatureParts]

    @property
    def theta(self) -> np.ndarray | None:
        """The map, float64 of shape (features, features): protected features are features @ theta. None for trained blocks."""
        defence = self._made.defence
        return np.asarray(defence.theta) if isinstance(defence, MapDefence) else None

    @property
    def published(self) -> Published | None:
        """The network as it is to be published, with its map, if it has one, and its head; None if there is no network."""
        with jax.enable_x64(True):
            return self._made.defence.published(self._prepared.subject)

    @property
    def verdict(self) -> Verdict:
        """Definition 3.1 on held-out rows, or on training rows where there are no others."""
        *_, last = self.record.measures.parts.values()
        return last.verdict

    def transform(self, features: Any) -> np.ndarray:
        """Protected features, of the shape of `features`, (N, features), and their dtype; of an extractor, float32.

        Raises:
          InputError: for trained blocks of a network, which takes images, and for another shape.
        """
        extractor = None if self.record.network is None or not self.record.network.of_rows else self.published
        if self.theta is None and extractor is None:
            raise InputError(
                "transform: trained blocks have no map behind features; run the images through published.network"
            )
        x, width = np.asarray(features), self._prepared.subject.features
        if x.ndim != 2 or x.shape[1] != width:
            raise InputError(f"features: need shape (rows, {width}), got {x.shape}")
        if extractor is not None:
            return np.asarray(extractor.network.features(jnp.asarray(x, jnp.float32)))
        assert self.theta is not None  # what is no extractor has one
        return x @ self.theta.astype(np.result_type(x, np.float32))

    def save(self, folder: str | Path) -> Path:
        """Writes what `cimm immunize` writes, so that `cimm attack`, `report` and `export` take the folder.

        Features that were given as arrays are saved beside, as primary.npz and harmful.npz, for attacks.

        Raises:
          InputError: if the folder cannot be written, or another process is at work there.
        """
        folder = Path(folder)
        with jax.enable_x64(True), only_one_in(folder, "folder"), at_level(Level.QUIET):
            places = {name: (folder / FILES[name]).absolute() for name in self._given}
            for name, parts in self._given.items():
                write_whole(places[name], _archive(parts), "folder")
            self._made.defence.write(folder, self._prepared.subject)
            deliver(folder, self._record_in(folder, places), json=False)
        return folder

    def _record_in(self, folder: Path, places: dict[str, Path]) -> ImmunizeRecord:
        """The record as the command would have written it there, of features at these places."""
        told = {name: str(path) for name, path in places.items()}
        settings = replace(self._prepared.settings, out=folder, **told)
        return replace(
            self.record,
            manifest=manifest_of(settings, self.record.manifest.data_sha256),
            source=replace(self.record.source, **places),
        )

    def __str__(self) -> str:
        part = part_of(self.record)
        return f"{part.title}. {part.headline}"


def protect(
    primary: Any, harmful: Any, *, method: str = "pencil", progress: bool = False, **settings: Any
) -> Protected:
    """Protects a pair of tasks: the primary one stays as good and as easy, the harmful one becomes hard.

    It does what `cimm immunize` does, in float64 whatever JAX is set to, and takes all of its settings by name: of features
    `heldout_share`, `target="regression"` or `reserve`; of a network `model`, `weights`, `train_from`, `cache`; of methods
    `budget`, `ridge`, `objective`, `steps`; and `seed`. `cimm immunize --help` describes them.

        protected = cimm_jax.protect((x, y), (x_harmful, y_harmful))
        print(protected)
        protected.save("runs/mine")     # then: cimm attack runs/mine, cimm export runs/mine --to DIR

    Args:
      primary: what must stay. Features of shape (N, d); features and labels as a pair; a mapping of x, y, x_heldout and
        y_heldout, as .npz files have them; or the path of a file or folder, of features or, with `model`, of images. Labels
        are whole numbers or text, or with target="regression" amounts. Held-out rows that are not given are drawn.
      harmful: what must become hard, in one of the same forms, with as many features.
      method: one of `cimm list methods`. `pencil`, a closed form, needs no training and no labels.
      progress: show bars.
      **settings: further ones of `cimm immunize`; `extractor="residual"` trains one behind features, instead of a map.

    Raises:
      InputError: if anything given cannot be used; the message names it.
    """
    found = {name: features_of(task, name) for name, task in (("primary", primary), ("harmful", harmful))}
    given = {name: parts for name, parts in found.items() if parts is not None}
    asked = immunize_settings(primary, harmful, {"method": method, **settings})
    if given and asked.kind not in (FEATURES, EXTRACTOR):
        raise InputError(
            f"{next(iter(given))}: {asked.kind} are named by paths or words, got arrays; leave the other settings out"
        )
    talk = level() if progress else Level.QUIET
    with jax.enable_x64(True), at_level(talk), TemporaryDirectory() as checkpoints:
        prepared = prepare(asked, open_features(asked.source, given) if given else None)  # pyright: ignore
        made = defend(prepared, Path(checkpoints) / "checkpoint")
        return Protected(measured(prepared, made), prepared, made, given)


def _archive(parts: FeatureParts) -> bytes:
    """An .npz file of features as `data.feature_arrays.read_npz` reads them."""
    train, heldout = parts
    arrays = [train.x, train.labels, *((None, None) if heldout is None else (heldout.x, heldout.labels))]
    content = io.BytesIO()
    np.savez(content, **{name: array for name, array in zip(ARRAYS, arrays, strict=True) if array is not None})
    return content.getvalue()
