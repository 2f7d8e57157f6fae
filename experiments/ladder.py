"""The attack ladder on every defence there is: what remains against attackers who do more than descend.

    python -m experiments.ladder --data-dir DIR [--configs resnet20_mnist ...] [--defences ...] [--out runs/ladder]

Four networks, as in `table3_deepnets`: ResNet20, CIFAR-10 against MNIST (resnet20_mnist) and the halves of CIFAR-10
(resnet20_halves), EfficientNet-Lite0, a sample of ImageNet against Cars (lite0_cars), and the small transformer (vit_mnist).
Defences: every method as a map behind the features; the methods of the paper that train blocks, at the strength at which
`table3_tails` found them to do most; `best_response` on the last blocks and on the whole network, and for longer; and, on the
same blocks, the baselines of the field as they are when nothing is set, and `erase` learned by them. A share of the harmful
training images is kept from all of them: attackers have those, and the held-out images judge.

Each configuration becomes a run folder, OUT/CONFIG, which `cimm report` shows: the picture, the verdict by rung, the tables.
Printed here: the best attack by rung and images a class, and which layer leaks most before and after.

With --sophon, the attacker of SOPHON (Deng et al., 2024) fine-tunes each network as well, beside the tuned ones: SGD at 1e-4
with momentum 0.9, batches of 200, 20 epochs, which with all images takes long (--image-rows 2000 leaves 100 a class).

What is finished is not run again. Run times and results: docs/results.md.
"""

import argparse
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from cimm_jax import methods
from cimm_jax.attacks.fine_tuners import SOPHON
from cimm_jax.attacks.ladder.rungs import FINE_TUNING, LAYERS, RUNGS
from cimm_jax.files import output_folder
from cimm_jax.methods import Method
from cimm_jax.networks.training import TrainingSettings
from cimm_jax.resuming import MadeBy
from cimm_jax.runs.codec import encode
from cimm_jax.runs.defence import Defence, MapDefence
from cimm_jax.runs.immunizing import make_map, train_blocks, training_settings
from cimm_jax.runs.ladder import FOLDER, LadderSettings, climb
from cimm_jax.runs.manifest import make_manifest
from cimm_jax.runs.network_subject import NetworkSubject
from cimm_jax.runs.records import LadderRecord
from cimm_jax.runs.run_folder import write_record
from cimm_jax.runs.source import NetworkSource
from cimm_jax.runs.trained_defence import TrainedDefence
from cimm_jax.views.numbers import percent
from cimm_jax.views.render.terminal import print_table
from experiments.common import PUBLISHED, parser
from experiments.table3_deepnets import CONFIGURATIONS, source_of
from experiments.table3_tails import RATES, TAILS


class Blocks(NamedTuple):
    """A defence that trains blocks.

    Attributes:
      method: name.
      cut: the first of them.
      training: settings of `immunizing.training_settings`.
      asked: the method's own settings.
      views: of each training image, all but one augmented; attackers' images are as they are.
    """

    method: str
    cut: str
    training: Mapping[str, Any] = MappingProxyType({})
    asked: Mapping[str, Any] = MappingProxyType({})
    views: int = 1

    def made(self) -> Method:
        """The method."""
        return methods.by_name(self.method)(**self.asked)


@dataclass(frozen=True)
class Ladder:
    """How the ladder of a configuration is climbed.

    Attributes:
      blocks: defences that train blocks, by name.
      image_rows: of MNIST and CIFAR-10, at most how many images of each part.
      reserve: share of the harmful training images that attackers have.
      primary_heldout: share of primary images that come in one part which only judges see.
      settings: of the ladder.
    """

    blocks: Mapping[str, Blocks]
    image_rows: int | None
    reserve: float
    settings: LadderSettings
    primary_heldout: float = 0.0


@dataclass(frozen=True)
class Asked:
    """What an experiment wants of `climbed`.

    Attributes:
      defences: of `MAPS` and the ladder's blocks; others are passed over.
      seeds: draws of the attackers' images.
      defence_seeds: how often each defence that trains blocks is trained.
      rungs: numbers of those that are climbed.
      seed: the first one.
      tuning_images: with more images than these nobody fine-tunes; None is the ladder's own.
      steps: of the paper's methods as maps.
      sophon: whether SOPHON's attacker fine-tunes as well.
      with_defences_images: whether attackers have the defences' images beside their own.
      cache: folder that keeps features and activations; None is the user's.
    """

    defences: Sequence[str]
    seeds: int
    defence_seeds: int
    rungs: Sequence[int]
    seed: int
    tuning_images: int | None = None
    steps: int = 300
    sophon: bool = False
    with_defences_images: bool = False
    cache: Path | None = None

    @classmethod
    def of(cls, settings: argparse.Namespace) -> "Asked":
        """What flags of the same names say; those that there are not stay as they are."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls) if field.name in settings})


BALANCED = {"strength": 10.0, "learning_rate": RATES[10.0]}


def _of_the_paper(tail: str) -> dict[str, Blocks]:
    """At the cut of a configuration of `table3_tails`."""
    return {f"{name} blocks": Blocks(name, TAILS[tail].cut, BALANCED) for name in ("algorithm1", "imma")}


def _of_the_field(cut: str) -> dict[str, Blocks]:
    """Baselines written from their papers, and `best_response`."""
    return {name: Blocks(name, cut) for name in ("best_response", "hsic", "sophon", "ntl", "encoderlock", "undo")}


LONGER = {"steps": 600}, {"heads": ("linear", "kernel", "whitened")}
"""What hides more: three times the steps, and a third head."""

CARS = {}, {"heads": ("linear", "unscaled", "kernel"), "lambda_harmful": 60.0}
"""Many classes and few images of each: the head that reads features as they are, and twice the weight."""

RESNET = _of_the_field("layer3.0") | {
    "best_response, whole": Blocks("best_response", "stem"),
    "best_response, longer": Blocks("best_response", "layer3.0", *LONGER),
    "best_response, whole, longer": Blocks("best_response", "stem", *LONGER),
    "best_response, whole, views": Blocks("best_response", "stem", *LONGER, views=6),
    "erase, learned": Blocks("erase", "layer3.0"),
}
CONFIGS = {
    "resnet20_mnist": Ladder(_of_the_paper("tail_resnet20_mnist") | RESNET, 8000, 0.5, LadderSettings()),
    "resnet20_halves": Ladder(RESNET, None, 0.5, LadderSettings()),
    "lite0_cars": Ladder(
        _of_the_field("top") | {"best_response, block15": Blocks("best_response", "block15", *CARS)},
        *(None, 1 / 3, LadderSettings(), 0.3),
    ),
    "vit_mnist": Ladder(_of_the_paper("tail_vit_mnist") | _of_the_field("block3"), 8000, 0.5, LadderSettings()),
}
MAPS = (*PUBLISHED, "pencil", "pencil_signal", "erase")
DEFENCES = (*MAPS, *dict.fromkeys(name for ladder in CONFIGS.values() for name in ladder.blocks))


def main(arguments: Sequence[str] | None = None) -> Path:
    """Makes defences, climbs, writes and prints; returns the folder."""
    settings = _settings(arguments)
    jax.config.update("jax_enable_x64", True)
    for name in settings.configs:
        begun = time.monotonic()
        ladder = CONFIGS[name]
        source = source_of(
            CONFIGURATIONS[name],
            settings.data_dir,
            settings.out,
            image_rows=settings.image_rows or ladder.image_rows,
            reserved=ladder.reserve,
            primary_heldout=ladder.primary_heldout,
        )
        command = _command(name, settings)
        record = climbed(source, ladder, Asked.of(settings), folder=settings.out / name, command=command)
        print_ladder(name, record, time.monotonic() - begun)
    return settings.out


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, "runs/ladder")
    made.add_argument("--configs", nargs="+", choices=tuple(CONFIGS), default=tuple(CONFIGS))
    made.add_argument("--defences", nargs="+", choices=DEFENCES, default=DEFENCES)
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument(
        "--defence-seeds", type=int, default=1, help="how often each defence that trains blocks is trained"
    )
    made.add_argument("--rungs", type=int, nargs="+", default=[rung.number for rung in RUNGS])
    made.add_argument("--tuning-images", type=int, help="with more images than these nobody fine-tunes")
    made.add_argument("--steps", type=int, default=300, help="optimizer steps of the paper's methods as maps")
    made.add_argument("--image-rows", type=int, help="of MNIST and CIFAR-10, images of each part")
    made.add_argument("--sophon", action="store_true", help="let SOPHON's attacker fine-tune as well")
    made.add_argument(
        "--with-defences-images", action="store_true", help="attackers have the defences' images beside their own"
    )
    made.add_argument("--cache", type=Path, help="folder that keeps features and activations between runs")
    return made.parse_args(arguments)


def climbed(source: NetworkSource, ladder: Ladder, asked: Asked, *, folder: Path, command: str) -> LadderRecord:
    """Makes the defences that are not finished, climbs, and writes the record.

    Args:
      source: the network and its data.
      ladder: how it is climbed.
      asked: what an experiment wants of it.
      folder: of the run.
      command: makes the record again.
    """
    folder = output_folder(folder)
    subject = NetworkSubject(source, asked.cache)
    defences = [
        _defence(wanted, subject, ladder, folder / "defences" / wanted.name, asked)
        for defence in asked.defences
        if defence in MAPS or defence in ladder.blocks
        for wanted in _wanted(defence, ladder, asked)
    ]
    settings = replace(
        ladder.settings,
        seeds=asked.seeds,
        rungs=tuple(asked.rungs),
        with_defences_images=asked.with_defences_images,
        seed=asked.seed,
    )
    if asked.tuning_images is not None:
        settings = replace(settings, tuning=replace(settings.tuning, most_images=asked.tuning_images))
    if asked.sophon:
        standard = settings.tuning.of(subject.network, len(subject.attackers_images.classes)).attackers
        settings = replace(settings, tuning=replace(settings.tuning, attackers=(*standard, SOPHON)))
    told = {field.name: getattr(asked, field.name) for field in fields(asked) if field.name != "cache"}
    manifest = make_manifest("ladder", told, command_line=command, data_sha256=subject.checksums())
    record = climb(manifest, subject, defences, settings, kept=folder / FOLDER)
    write_record(folder, record)
    return record


def _command(name: str, settings: argparse.Namespace) -> str:
    """What makes the record again, but for where it writes."""
    words = ["python", "-m", "experiments.ladder"]
    for key, value in {**vars(settings), "configs": [name]}.items():
        if key in ("out", "cache") or value is None or value is False:
            continue
        values = value if isinstance(value, list | tuple) else [] if value is True else [value]
        words += [f"--{key.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)


class Wanted(NamedTuple):
    """One training of a defence.

    Attributes:
      name: of the network that comes of it.
      defence: of `DEFENCES`.
      seed: of it.
    """

    name: str
    defence: str
    seed: int


def _wanted(defence: str, ladder: Ladder, asked: Asked) -> list[Wanted]:
    """Of a defence that trains blocks as many as are asked for, of a map the first."""
    first = asked.seed
    more = range(first + 1, first + asked.defence_seeds if defence in ladder.blocks else first + 1)
    return [Wanted(defence, defence, first), *(Wanted(f"{defence}, seed {seed}", defence, seed) for seed in more)]


def _defence(wanted: Wanted, subject: NetworkSubject, ladder: Ladder, folder: Path, asked: Asked) -> Defence:
    """The defence, read from its folder if the same data and settings made it there, or made into it."""
    folder.mkdir(parents=True, exist_ok=True)
    made_by = {"data": encode(subject.network_data), "seed": wanted.seed, "steps": asked.steps}
    if wanted.defence in ladder.blocks:
        blocks = ladder.blocks[wanted.defence]
        made_by |= {"cut": blocks.cut, "training": asdict(_training(blocks, subject, wanted.seed))}
        made_by |= {"asked": dict(blocks.asked)} if blocks.asked else {}
        made_by |= {"views": blocks.views} if blocks.views > 1 else {}
    noted = MadeBy(folder / "made_by.json", made_by)
    found = noted.read() is not None
    made = _read_or_made(wanted, subject, ladder, folder, asked.steps, found=found)
    noted.write(wanted.name)
    return made


def _read_or_made(
    wanted: Wanted, subject: NetworkSubject, ladder: Ladder, folder: Path, steps: int, *, found: bool
) -> Defence:
    name, defence, seed = wanted
    if defence in MAPS:
        if found:
            return MapDefence.read(name, folder)
        method = methods.build_methods([defence], {}, {})[defence]
        made, _ = make_map(subject, method, name=name, seed=seed, steps=steps, with_history=False)
        made.write(folder, subject)
        return made
    blocks = ladder.blocks[defence]
    if not found:
        seen = _cut(replace(subject.source, views=blocks.views), blocks.cut, subject.cache)
        training = _training(blocks, seen, seed)
        made, *_ = train_blocks(seen, blocks.made(), training, name=name, folder=folder / "checkpoint")
        made.write(folder, seen)
    return TrainedDefence.read(name, folder, _cut(subject.source, blocks.cut, subject.cache), blocks.cut)


def _cut(source: NetworkSource, cut: str, cache: Path | None) -> NetworkSubject:
    """A subject of its own: the one that is attacked is cut elsewhere."""
    subject = NetworkSubject(source, cache)
    subject.cut_at(cut)
    return subject


def _training(blocks: Blocks, subject: NetworkSubject, seed: int) -> TrainingSettings:
    return training_settings(blocks.made(), subject, seed=seed, **blocks.training)


def print_ladder(name: str, record: LadderRecord, seconds: float) -> None:
    """The best attack by rung and images a class, and by layer with all of them."""
    labels = [
        f"{budget.images} images" if budget.a_class is None else f"{budget.a_class} a class"
        for budget in record.budgets
    ]
    rows = []
    for network in record.networks:
        for rung in RUNGS:
            best = [_best(record, network, images=budget.images, rung=rung.number) for budget in record.budgets]
            if any(best):
                rows.append([network, rung.name, *best])
    print_table(
        ["network", "rung", *labels],
        rows,
        title=f"{name}: best held-out accuracy; guessing {record.judged.guessing:.3f}",
    )
    everything = record.budgets[-1].images
    places = list(dict.fromkeys(one.place for one in record.tried if one.rung == LAYERS))
    layers = [
        [place, *(_best(record, of, images=everything, rung=LAYERS, place=place) for of in record.networks)]
        for place in places
    ]
    print_table(["layer", *record.networks], layers, title=f"{name}: best head on each layer, {labels[-1]}")
    if tuned := [one for one in record.tried if one.attacker == SOPHON.name]:
        rows = [[one.network, one.images, percent(one.best)] for one in tuned if one.rung == FINE_TUNING]
        print_table(["network", "images", "accuracy"], rows, title=f"{name}: {SOPHON.name} attacker")
    print(f"{name}: {seconds / 60:.1f} minutes, {record.peak_bytes / 2**30:.1f} GiB of memory at most")


def _best(record: LadderRecord, network: str, **where: int | str) -> str:
    """Of those attackers; empty if there are none."""
    found = [
        one
        for one in record.tried
        if one.network == network and all(getattr(one, key) == value for key, value in where.items())
    ]
    return percent(max(one.best for one in found)) if found else ""


if __name__ == "__main__":
    main()
