"""Where a subject comes from: all that is needed to open it again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cimm_jax.errors import InputError

__all__ = ["DataSource", "FeatureSource", "NetworkSource", "Source", "check_same_source", "harmful_one_by_one"]


@dataclass(frozen=True)
class DataSource:
    """A pair of tasks of a data set.

    Attributes:
      data: name of the data set.
      data_dir: folder with its files; None downloads what is not embedded.
      primary: primary digit task, as it is written; None for a fixed pair, or the default.
      harmful: harmful digit task.
      benign: benign digit task.
      rows: rows a side of each digit task; None is all.
      reserved: share of each harmful class's training rows that no defence sees, so that attackers have their own.
    """

    data: str
    data_dir: Path | None = None
    primary: str | None = None
    harmful: str | None = None
    benign: str | None = None
    rows: int | None = None
    reserved: float = 0.0

    @property
    def title(self) -> str:
        """What people call it."""
        return self.data


@dataclass(frozen=True)
class FeatureSource:
    """Files of somebody's own features.

    Attributes:
      primary: file or folder of the primary task's features.
      harmful: of the harmful task's.
      benign: of a third task's that neither side trains on; None if there is none.
      label: column or array of the labels; None is y or label, if it is there.
      target: what labels are: "classes", or amounts ("regression").
      heldout_share: of the rows of files without a held-out part that no method sees, so that they judge it; None is the
        default, and in a record it says that none were drawn.
      heldout_seed: draws them.
      reserved: share of each harmful class's training rows that no defence sees, so that attackers have their own.
      harmful_too: of further harmful tasks, blocked by the same map.
      extractor: what is trained behind them (`networks.residual`), "residual"; None if nothing is, and maps are made.
    """

    primary: Path
    harmful: Path
    benign: Path | None = None
    label: str | None = None
    target: str = "classes"
    heldout_share: float | None = None
    heldout_seed: int = 0
    reserved: float = 0.0
    harmful_too: tuple[Path, ...] = ()
    extractor: str | None = None

    @property
    def title(self) -> str:
        """What people call it."""
        return "own features"


@dataclass(frozen=True)
class NetworkSource:
    """A network and two data sets of images or, of a text network, of texts.

    Attributes:
      model: name of the network, or its checkpoint folder, or `FILE.py:NAME`.
      weights: safetensors file, or the index of several.
      primary: folder or file of the images that its head is for, or a data set of TensorFlow Datasets.
      harmful: the same of the other images.
      primary_classes: names of the primary classes to use; labels stay those of the head. All if empty.
      harmful_classes: names of the harmful classes to use, in the order of their labels. All if empty.
      image_rows: of all but folders, at most how many images, or texts, of each part.
      views: of each training image: as it is, and augmented ones, the same for every seed.
      strict: refuse images that cannot be decoded.
      reserved: share of each harmful class's training images that no defence sees, so that attackers have their own.
      primary_heldout: share of primary images, where they come in one part, that no defence sees, so that they judge.
      text_length: of a text network, most tokens of a text; None is as many as it takes.
      harmful_too: folders or files of further harmful tasks, blocked by the same map.
    """

    model: str
    weights: Path
    primary: str
    harmful: str
    primary_classes: tuple[str, ...] = ()
    harmful_classes: tuple[str, ...] = ()
    image_rows: int | None = None
    views: int = 1
    strict: bool = False
    reserved: float = 0.0
    primary_heldout: float = 0.0
    text_length: int | None = None
    harmful_too: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What people call it: of a place, its last name."""
        return Path(self.model).name or self.model


Source = DataSource | FeatureSource | NetworkSource


def harmful_one_by_one(source: Source) -> tuple[Source, ...]:
    """The same with each harmful task alone; the source itself where there is one."""
    if isinstance(source, DataSource) or not source.harmful_too:
        return (source,)
    return tuple(replace(source, harmful=one, harmful_too=()) for one in (source.harmful, *source.harmful_too))


def check_same_source(sources: Mapping[str, Source]) -> None:
    """Raises `InputError` unless all sources, by the name of what was made from them, are one and the same."""
    first_name = next(iter(sources), "")
    for name, source in sources.items():
        first = sources[first_name]
        if type(source) is not type(first):
            raise InputError(f"runs: {first_name} and {name} are of different kinds; attack runs of one pair together")
        for setting, value in vars(source).items():
            if value != getattr(first, setting):
                raise InputError(
                    f"runs: {first_name} has {setting} {getattr(first, setting)} and {name} {value}; attack runs of one pair "
                    "together"
                )
