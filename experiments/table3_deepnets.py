"""Table 3 of the paper: immunization of pretrained networks, every method, and what attackers keep.

Published (primary ImageNet, 3 seeds; theta_0 has 68.24 % on ResNet18, 81.78 % on ViT): (i) / (ii) / RIR / accuracy

    harmful     method      ResNet18                         ViT-B/16
    Cars        R_ill only   1.878 /  1.786 / 1.057 / 63.84  13.121 /  4.097 /  3.342 / 82.21
    Cars        IMMA         0.866 /  0.889 / 0.974 / 63.57   1.422 /  2.090 /  0.702 / 81.89
    Cars        Opt kappa    1.217 /  0.798 / 1.527 / 63.65   3.598 /  0.171 / 26.369 / 82.51
    Cars        paper        2.386 /  0.699 / 3.467 / 62.36   7.945 /  0.323 / 34.517 / 82.79
    Country211  R_ill only  20.727 / 20.675 / 1.038 / 62.17  69.291 / 63.519 /  1.122 / 80.73
    Country211  IMMA         0.791 /  0.814 / 0.972 / 67.03   6.242 /  7.599 /  0.845 / 82.47
    Country211  Opt kappa    1.538 /  1.053 / 1.472 / 66.81   4.589 /  0.300 / 16.498 / 82.79
    Country211  paper        3.287 /  0.399 / 8.714 / 65.01  20.894 /  0.700 / 41.341 / 83.17

The paper trains the last blocks. Here every method makes a linear map behind the features, which the published head absorbs:
accuracy stays what it was, and a method is judged by its map alone. The methods of the paper use Hessians of minibatches of 64.
Each map with (i), (ii) and RIR_theta0 on all training rows and in 20 groups of 100 (Eq. 17), by the definition and by the
released rule; accuracy of the published head before and after; and the best held-out accuracy on the harmful classes over a
sweep of learning rates, after 600 full-batch steps. The last attackers are adaptive: they whiten, solve or undo the map. Where
there are held-out primary images, new probes of the primary classes are trained too: they should be as easy as before.

    python -m experiments.table3_deepnets --config lite0_cars --data-dir DIR [--out runs/table3]
    cimm reproduce table3 --config lite0_cars --data-dir DIR

Configurations: lite0_cars (EfficientNet-Lite0, a sample of ImageNet, Cars), resnet20_mnist and resnet56_mnist (CIFAR-10, MNIST
in colour), vit_mnist (the same with a small transformer, which `pretrain_vit` trains into OUT/vit first unless --weights names
one), resnet20_halves and resnet56_halves (the first five classes of CIFAR-10, the last five), and the published ones, which
need weights/ in DIR, and imagenet2012/, cars196/ or country211/ there or --primary tfds:imagenet2012 --harmful tfds:cars196. A
method that is finished is not run again. Run time and result: docs/results.md.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cimm_jax import attacks
from cimm_jax.attacks import UNDEFENDED
from cimm_jax.data.image_arrays import CIFAR10_CLASSES
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder, write_json
from cimm_jax.measures.groups import groups_by_policy
from cimm_jax.methods import HessianFrom
from cimm_jax.numerics import losses
from cimm_jax.numerics.threads import blas_threads_for
from cimm_jax.progress import phase
from cimm_jax.resuming import Checkpoint, MadeBy
from cimm_jax.runs.codec import encode
from cimm_jax.runs.defence import MapDefence, undefended
from cimm_jax.runs.immunizing import make_map
from cimm_jax.runs.network_data import NetworkData
from cimm_jax.runs.network_subject import NetworkSubject, attacked_task
from cimm_jax.runs.source import NetworkSource
from cimm_jax.tasks import SplitTask
from cimm_jax.views.render.terminal import print_table
from experiments.common import CIFAR, every_method, parser
from experiments.measure import mean_and_spread, ratio_records
from experiments.pretrain_vit import pretrained
from experiments.pretraining import Settings
from experiments.probes import FOLLOWERS, best_follower, probe_records
from experiments.published import TABLE_3

ATTACKERS = (
    *("gd", "momentum", "adam", "line_search"),
    *(
        "standardise + adam",
        "conjugate_gradient",
        "whiten + line_search",
        "undo the map + line_search",
        "normal equations",
    ),
)
SEEDED = tuple(name for name, method in every_method().items() if not method.closed_form)
"""Methods that a seed changes."""

MNIST_ROWS = 10_000

Row = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A network and two data sets, as paths inside the data folder.

    Attributes:
      model: name of the network.
      weights: its file; empty for the network that `pretrain_vit` trains.
      primary: images that its head is for.
      harmful: images to make hard.
      published: (i), (ii), RIR and accuracy by method; empty if the paper has none.
      image_rows: of MNIST and CIFAR-10, at most how many images of each part.
      primary_classes: names of the primary classes to use; all if empty.
      harmful_classes: names of the harmful ones.
    """

    model: str
    weights: str
    primary: str
    harmful: str
    published: dict[str, Row] = dataclasses.field(default_factory=dict)
    image_rows: int | None = None
    primary_classes: tuple[str, ...] = ()
    harmful_classes: tuple[str, ...] = ()


HARMFUL_FOLDERS = {"cars": "cars196", "country211": "country211"}
CONFIGURATIONS = {
    "lite0_cars": Configuration(
        "efficientnet_lite0", "weights/efficientnet_lite0_imagenet.safetensors", "imagenet1k_sample", "cars196"
    ),
    **{
        f"{name}_mnist": Configuration(
            f"{name}_cifar10", f"weights/{name}_cifar10.safetensors", CIFAR, "mnist", image_rows=MNIST_ROWS
        )
        for name in ("resnet20", "resnet56")
    },
    "vit_mnist": Configuration("vit_mini_cifar10", "", CIFAR, "mnist", image_rows=MNIST_ROWS),
    **{
        f"{name}_halves": Configuration(
            f"{name}_cifar10",
            f"weights/{name}_cifar10.safetensors",
            *(CIFAR, CIFAR),
            primary_classes=CIFAR10_CLASSES[:5],
            harmful_classes=CIFAR10_CLASSES[5:],
        )
        for name in ("resnet20", "resnet56")
    },
    **{
        f"{model}_{harmful}": Configuration(
            model, f"weights/{model}.safetensors", "imagenet2012", HARMFUL_FOLDERS[harmful], published
        )
        for (model, harmful), published in TABLE_3.items()
    },
}


def main(arguments: Sequence[str] | None = None) -> Path:
    """Runs what is not finished, writes a map and a file of figures a method, prints the table; returns results.json."""
    settings = _settings(arguments)
    jax.config.update("jax_enable_x64", True)
    configuration = CONFIGURATIONS[settings.config]
    # What cannot be run is refused before maps are made.
    attacks.standard_operators(settings.attackers, steps=settings.attack_steps, rates=settings.rates)
    folder = output_folder(settings.out / settings.config)
    subject = subject_of(configuration, settings)
    check_same_inputs(folder, subject.network_data)
    found = {}
    with blas_threads_for(subject.features):
        tasks = {
            task: attacked_task(features, losses.squared)
            for task, features in subject.published._asdict().items()
            if features.heldout is not None
        }
        for name in settings.methods:
            for seed in range(settings.seed, settings.seed + (settings.seeds if name in SEEDED else 1)):
                label = f"{name}-{seed}"
                with phase(label):
                    defence = _defence(name, seed, subject, folder / label, settings)
                    figures = _figures(defence, subject, tasks, folder / f"{label}.json", settings, seed)
                found.setdefault(name, []).append(figures)
    results = {
        "config": dataclasses.asdict(configuration),
        "attack_steps": settings.attack_steps,
        "data": encode(subject.network_data),
        "methods": found,
    }
    written = write_json(folder / "results.json", results)
    _print(settings, configuration, found)
    return written


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    methods = (UNDEFENDED, *every_method())
    made = parser(__doc__, "runs/table3")
    made.add_argument("--config", choices=tuple(CONFIGURATIONS), required=True)
    made.add_argument("--methods", nargs="+", choices=methods, default=methods)
    made.add_argument("--attackers", nargs="+", default=ATTACKERS, help="names as in cimm attack")
    made.add_argument("--seeds", type=int, default=1)
    made.add_argument("--steps", type=int, default=300, help="optimizer steps of the paper's methods")
    made.add_argument("--batch-size", type=int, default=64, help="rows of their Hessians")
    made.add_argument("--attack-steps", type=int, default=600)
    made.add_argument("--rates", type=int, default=7, help="learning rates of each attacker that has one")
    add_network_settings(made)
    return made.parse_args(arguments)


def add_network_settings(made: argparse.ArgumentParser) -> None:
    """What `subject_of` asks of the settings beside those of every experiment."""
    for task in ("primary", "harmful"):
        made.add_argument(f"--{task}", help="images instead of the configuration's, such as tfds:cars196@DIR")
    made.add_argument("--image-rows", type=int, help="images of each part of MNIST, CIFAR-10 and tfds:NAME")
    made.add_argument("--views", type=int, default=1, help="views of each training image, all but one augmented")
    made.add_argument("--weights", type=Path, help="file of the network's weights, instead of the configuration's")
    made.add_argument("--cache", type=Path, help="folder that keeps features and activations between runs")


def subject_of(configuration: Configuration, settings: argparse.Namespace) -> NetworkSubject:
    """Network and images, after training the network if its weights are neither published nor given.

    Args:
      configuration: which.
      settings: of the experiment; `out` is where a network is trained.

    Raises:
      InputError: if something is missing, or the batches are larger than the data.
    """
    source = source_of(
        configuration,
        settings.data_dir,
        settings.out,
        image_rows=settings.image_rows or configuration.image_rows,
        views=settings.views,
        weights=settings.weights,
        primary=settings.primary,
        harmful=settings.harmful,
    )
    subject = NetworkSubject(source, settings.cache)
    subject.check_batch_size(settings.batch_size)
    return subject


def source_of(
    configuration: Configuration,
    root: Path,
    out: Path,
    *,
    image_rows: int | None,
    views: int = 1,
    reserved: float = 0.0,
    primary_heldout: float = 0.0,
    weights: Path | None = None,
    primary: str | None = None,
    harmful: str | None = None,
) -> NetworkSource:
    """Where network and images are, after training the network if its weights are neither published nor given.

    Args:
      configuration: which.
      root: folder of data.
      out: where a network is trained.
      image_rows: as in `NetworkSource`, like the next two.
      views: of each training image.
      reserved: share that attackers have.
      primary_heldout: share of primary images that judges have, where they come in one part.
      weights: instead of the configuration's.
      primary: images instead of the configuration's.
      harmful: the same.

    Raises:
      InputError: if something is missing.
    """
    published = [configuration.weights] if configuration.weights and weights is None else []
    given = {"primary": primary, "harmful": harmful}
    for needed in (*published, *(getattr(configuration, task) for task, images in given.items() if images is None)):
        if not (root / needed).exists():
            raise InputError(f"data_dir: {root / needed} is missing; {configuration.model} needs it")
    if weights is None:
        weights = root / published[0] if published else pretrained(root, out / "vit", Settings())
    return NetworkSource(
        configuration.model,
        weights,
        *(images or str(root / getattr(configuration, task)) for task, images in given.items()),
        primary_classes=configuration.primary_classes,
        harmful_classes=configuration.harmful_classes,
        image_rows=image_rows,
        views=views,
        reserved=reserved,
        primary_heldout=primary_heldout,
    )


def check_same_inputs(folder: Path, data: NetworkData) -> None:
    """Raises `InputError` if what is finished in the folder was run on other images or weights; otherwise notes these."""
    noted = MadeBy(folder / "data.json", encode(data))
    if noted.read() is None and noted.read_whoever_made_it() is not None:
        raise InputError(f"out: {folder} has methods that were run on other images or weights; choose another folder")
    noted.write("everything in this folder")


def _defence(name: str, seed: int, subject: NetworkSubject, folder: Path, settings: argparse.Namespace) -> MapDefence:
    """The map, from the folder if the same settings made it there, or made."""
    if name == UNDEFENDED:
        return undefended(subject)
    saved = Checkpoint(folder, _made_by(subject, settings))
    shapes = {"theta": jax.ShapeDtypeStruct((subject.features, subject.features), np.float64)}
    if (found := saved.restore(lambda notes: shapes)) is not None:
        return MapDefence(name, found[0]["theta"])
    defence, _ = make_map(
        subject,
        every_method(HessianFrom.BATCH)[name],
        name=name,
        seed=seed,
        steps=settings.steps,
        batch_size=settings.batch_size,
        with_history=False,
        with_progress=False,
    )
    saved.save({"theta": defence.theta}, {})
    return defence


def _made_by(subject: NetworkSubject, settings: argparse.Namespace) -> dict[str, Any]:
    """What a map depends on, beside method and seed."""
    return {"steps": settings.steps, "batch_size": settings.batch_size, "data": encode(subject.network_data)}


def _figures(
    defence: MapDefence,
    subject: NetworkSubject,
    tasks: Mapping[str, SplitTask],
    path: Path,
    settings: argparse.Namespace,
    seed: int,
) -> dict[str, Any]:
    """What is known of a map, from the file or measured; an attacker that is missing there is run."""
    attacked_with = {key: getattr(settings, key) for key in ("attack_steps", "rates")}
    saved = MadeBy(path, {**_made_by(subject, settings), **attacked_with})
    if (found := saved.read()) is None:
        found = {**_measured(defence, subject, seed), "attacks": {}}
        saved.write(found)
    for task, undefended_task in tasks.items():
        done = found["attacks"].setdefault(task, {})
        missing = [name for name in (settings.attackers if task == "harmful" else FOLLOWERS) if name not in done]
        if not missing:
            continue
        target = defence.target(subject, task, undefended_task, losses.squared)
        for attacker in missing:
            operators = attacks.standard_operators((attacker,), steps=settings.attack_steps, rates=settings.rates)
            keys = jax.random.split(jax.random.key(seed), 1)
            done |= probe_records(attacks.sweep_classes(operators, {defence.name: target}, keys=keys))
            saved.write(found)
    return found


def _measured(defence: MapDefence, subject: NetworkSubject, seed: int) -> dict[str, Any]:
    extraction = defence.extractions(subject)["train"]
    ratios = ratio_records(extraction)
    for policy, groups in groups_by_policy(extraction, jax.random.key(seed)).items():
        ratios[policy]["groups"] = groups._asdict()
    try:
        parts = defence.kept(subject)
        assert parts is not None  # a network has a head
        kept = parts.get("heldout", parts["train"])._asdict()
    except InputError as error:
        kept = {"refused": str(error)}
    return {"ratios": ratios, "primary_kept": kept}


def _print(settings: argparse.Namespace, configuration: Configuration, found: dict[str, list[dict[str, Any]]]) -> None:
    columns = ["method", *(["published (i) / (ii) / RIR / accuracy"] if configuration.published else [])]
    columns += ["(i)", "(ii)", "RIR", "RIR, groups", "released RIR", "accuracy", "logits changed by"]
    rows = []
    for name, runs in found.items():
        defined, released = ([run["ratios"][policy] for run in runs] for policy in ("PseudoInverse", "ReleasedCode"))
        published = configuration.published.get(name)
        row = [name]
        if configuration.published:
            row.append(" / ".join(map(str, published)) if published else "")
        row += [mean_and_spread([ratio[key] for ratio in defined]) for key in ("harmful_ratio", "primary_ratio", "rir")]
        row.append(mean_and_spread([ratio["groups"]["rir"][0] for ratio in defined]))
        row.append(mean_and_spread([ratio["rir"] for ratio in released]))
        kept = [run["primary_kept"] for run in runs]
        row += [mean_and_spread([k.get(key) for k in kept]) for key in ("accuracy_after", "largest_change")]
        rows.append(row)
    print_table(columns, rows, title=f"{settings.config}: a linear map behind the features, mean (sd) over seeds")
    print_table(
        ["method", *settings.attackers, *(f"{task}best of {', '.join(FOLLOWERS)}" for task in ("", "primary, "))],
        [
            [
                name,
                *(
                    mean_and_spread(
                        [run["attacks"].get("harmful", {}).get(attacker, {}).get("accuracy") for run in runs]
                    )
                    for attacker in settings.attackers
                ),
                *(
                    mean_and_spread([best_follower(run["attacks"].get(task, {})) for run in runs])
                    for task in ("harmful", "primary")
                ),
            ]
            for name, runs in found.items()
        ],
        title=f"held-out accuracy on the harmful classes, {settings.attack_steps} steps, best of {settings.rates} rates",
    )


if __name__ == "__main__":
    main()
