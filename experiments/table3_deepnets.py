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
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from safetensors.numpy import load_file, save

from cimm_jax import attacks
from cimm_jax.commands.deep_features import DeepData, DeepInputs, read_deep_inputs
from cimm_jax.commands.shared import POLICIES, blas_threads_for
from cimm_jax.data.image_arrays import CIFAR10_CLASSES
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.methods import HessianFrom, Method, immunize
from cimm_jax.measures.metrics import relative_immunization_ratio
from cimm_jax.report.attack_facts import UNDEFENDED
from cimm_jax.report.tables import print_table
from cimm_jax.tasks import TaskPair
from cimm_jax.networks.head import primary_kept
from cimm_jax.attacks.class_sweep import attack_features
from cimm_jax.measures.groups import GROUP_ROWS, grouped_ratio
from experiments.common import CIFAR, every_method, parser
from experiments.measure import mean_and_spread
from experiments.pretrain_vit import Settings, pretrained
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
MAP_SETTINGS = ("steps", "batch_size")
"""What a map depends on, beside method, seed and images."""

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is not finished, writes a map and a file of figures a method, and results.json; prints the table."""
    settings = _settings(arguments)
    jax.config.update("jax_enable_x64", True)
    configuration = CONFIGURATIONS[settings.config]
    # What cannot be run is refused before maps are made.
    attacks.standard_operators(settings.attackers, steps=settings.attack_steps, rates=settings.rates)
    folder = output_folder(settings.out / settings.config)
    data = read_inputs(configuration, settings, settings.weights).data(settings.cache)
    check_same_inputs(folder, data.described)
    pair = jax.tree.map(jnp.asarray, data.features.pair())
    console, found = Console(stderr=True), {}
    with blas_threads_for(data.head.kernel.shape[0]):
        for name in settings.methods:
            for seed in range(settings.seed, settings.seed + (settings.seeds if name in SEEDED else 1)):
                label = f"{name}-{seed}"
                with console.status(label):
                    theta = _theta(name, seed, pair, folder / f"{label}.safetensors", settings)
                    figures = _figures(label, theta, pair, data, folder / f"{label}.json", settings, seed)
                found.setdefault(name, []).append(figures)
                console.print(f"{label}: done", highlight=False)
    results = {
        "config": dataclasses.asdict(configuration),
        "attack_steps": settings.attack_steps,
        "data": data.described,
        "methods": found,
    }
    for place in (folder, settings.out):  # the latter holds the configuration that was run last
        write_json(place / "results.json", results)
    _print(settings, configuration, found)


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
    add_image_settings(made)
    made.add_argument("--weights", type=Path, help="file of the network's weights, instead of the configuration's")
    made.add_argument("--cache", type=Path, help="folder that keeps features between runs")
    return made.parse_args(arguments)


def add_image_settings(made: argparse.ArgumentParser) -> None:
    """What `read_inputs` asks of the settings beside those of every experiment."""
    for task in ("primary", "harmful"):
        made.add_argument(f"--{task}", help="images instead of the configuration's, such as tfds:cars196@DIR")
    made.add_argument("--image-rows", type=int, help="images of each part of MNIST, CIFAR-10 and tfds:NAME")
    made.add_argument("--views", type=int, default=1, help="views of each training image, all but one augmented")


def read_inputs(configuration: Configuration, settings: argparse.Namespace, weights: Path | None = None) -> DeepInputs:
    """Network and images, after training the network if its weights are neither published nor given.

    Args:
      configuration: which.
      settings: of the experiment; `out` is where a network is trained.
      weights: file of the network's weights, instead of the configuration's.

    Raises:
      InputError: if something is missing, or the batches are larger than the data.
    """
    root = settings.data_dir
    published = [configuration.weights] if configuration.weights and weights is None else []
    sources = {task: getattr(settings, task) for task in ("primary", "harmful")}
    for needed in (*published, *(getattr(configuration, task) for task, given in sources.items() if given is None)):
        if not (root / needed).exists():
            raise InputError(f"data_dir: {root / needed} is missing; {settings.config} needs it")
    if weights is None:
        weights = root / published[0] if published else pretrained(root, settings.out / "vit", Settings())
    inputs = read_deep_inputs(
        model=configuration.model,
        weights=weights,
        **{task: given or str(root / getattr(configuration, task)) for task, given in sources.items()},
        image_rows=settings.image_rows or configuration.image_rows,
        strict=False,
        primary_classes=configuration.primary_classes,
        harmful_classes=configuration.harmful_classes,
        views=settings.views,
    )
    inputs.check_batch_size(settings.batch_size)
    return inputs


def check_same_inputs(folder: Path, described: dict[str, Any]) -> None:
    """Raises `InputError` if what is finished in the folder was run on other images or weights; otherwise notes these."""
    path = folder / "data.json"
    if path.exists() and json.loads(path.read_text()) != described:
        raise InputError(f"out: {folder} has methods that were run on other images or weights; choose another folder")
    write_json(path, described)


def _theta(name: str, seed: int, pair: TaskPair, path: Path, settings: argparse.Namespace) -> np.ndarray:
    """The map, from the file if the figures beside it are of one that the same settings made, or made."""
    if name == UNDEFENDED:
        return np.eye(pair.primary.x.shape[1])
    figures = path.with_suffix(".json")
    made_by = json.loads(figures.read_text())["made_by"] if figures.exists() else {}
    if not path.exists() or any(made_by.get(key) != getattr(settings, key) for key in MAP_SETTINGS):
        figures.unlink(missing_ok=True)  # or it would vouch for the new map
        method: Method = every_method(HessianFrom.BATCH)[name]
        theta = immunize(
            method,
            pair,
            key=jax.random.key(seed),
            steps=settings.steps,
            record_every=settings.steps,
            batch_size=settings.batch_size,
        ).theta
        write_whole(path, save({"theta": np.asarray(theta)}))
    return load_file(path)["theta"]


def _figures(
    label: str,
    theta: np.ndarray,
    pair: TaskPair,
    data: DeepData,
    path: Path,
    settings: argparse.Namespace,
    seed: int,
) -> dict[str, Any]:
    """What is known of a map, from the file or measured; an attacker that is missing there is run."""
    made_by = {key: getattr(settings, key) for key in (*MAP_SETTINGS, "attack_steps", "rates")}
    found = json.loads(path.read_text()) if path.exists() else {}
    if found.get("made_by") != made_by:
        found = {"made_by": made_by, **_measured(theta, pair, data, seed), "attacks": {}}
        write_json(path, found)
    for task, features in data.features._asdict().items():
        if features.heldout is None:
            continue
        done = found["attacks"].setdefault(task, {})
        for attacker in settings.attackers if task == "harmful" else FOLLOWERS:
            if attacker in done:
                continue
            operators = attacks.standard_operators((attacker,), steps=settings.attack_steps, rates=settings.rates)
            keys = jax.random.split(jax.random.key(seed), 1)
            done |= probe_records(attack_features(features, {label: theta}, operators, keys=keys))
            write_json(path, found)
    return found


def _measured(theta: np.ndarray, pair: TaskPair, data: DeepData, seed: int) -> dict[str, Any]:
    mapped, rows = jnp.asarray(theta), min(GROUP_ROWS, *(len(task.x) for task in pair))
    measured: dict[str, Any] = {}
    for policy in POLICIES:
        ratio = relative_immunization_ratio(mapped, pair, policy)
        groups = grouped_ratio(mapped, pair, jax.random.key(seed), policy=policy, rows=rows)
        measured[type(policy).__name__] = {
            **{key: float(getattr(ratio, key)) for key in ("harmful_ratio", "primary_ratio", "rir")},
            "kappa": {key: float(getattr(ratio, key).kappa) for key in ("harmful", "primary")},
            "floored": bool(ratio.floored),
            "groups": groups._asdict(),
        }
    parts = data.plain_primary()
    judged = parts.get("heldout", parts["train"])
    try:
        kept = primary_kept(data.head, data.head.absorbed(theta), theta, judged.x, judged.labels)._asdict()
    except InputError as error:
        kept = {"refused": str(error)}
    return {"ratios": measured, "primary_kept": kept}


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
        row.append(mean_and_spread([_group_mean(ratio) for ratio in defined]))
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


def _group_mean(ratio: dict[str, Any]) -> float:
    mean = ratio["groups"]["rir"]
    return mean[0] if isinstance(mean, list) else mean.mean


if __name__ == "__main__":
    main()
