"""Immunized against a proxy, attacked with the real thing: the paper's third open question.

Whoever defends may not have the data that attackers will. ResNet20 on CIFAR-10 is the published network, MNIST the blocked
task; maps of its features are made from something else and attacked with MNIST itself:

* other images of the same classes (what all other experiments have), of eight, five and two of the ten;
* changed copies: noise of two strengths, moved by up to four pixels and mirrored, colours inverted;
* another data set of the same kind: scikit-learn's digits;
* moments alone: normal numbers with the mean of each class and the covariance within;
* no labels: the images, in ten clusters of their features (k-means);
* nothing: images of noise, in ten clusters.

Maps: `erase`, which takes what linear heads read of the proxy's labels, and `pencil_signal`. Attackers have 20 images a class,
or all of theirs, and the best of ridge regression, scaled or not, and of kernel ridge regression. Removed is the share of what
the undefended features give above guessing. Each seed draws proxies and attackers' images anew; intervals are over seeds.

Which likeness of proxy and target says beforehand how much is removed: Spearman's rho over proxies and seeds of

* label directions: share of the target's label signal (whitened by its covariance) in the span of the proxy's;
* alignment of the covariances' leading ten directions; the cosine of the covariances; log of the pencil's limit between them.

    python -m experiments.proxy_data --data-dir DIR [--seeds 3] [--out runs/proxy_data]

An interrupted run goes on when the same command is given again. Run time and result: docs/results.md.
"""

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from cimm_jax import attacks, methods
from cimm_jax.attacks import UNDEFENDED
from cimm_jax.attacks.class_sweep import class_task
from cimm_jax.attacks.heads import head_operators
from cimm_jax.attacks.protocol import behind
from cimm_jax.class_targets import centred, one_hot
from cimm_jax.closed_form.limits import pair_limit
from cimm_jax.data.image_set import ImageSet
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.measures.diagnosis import alignment
from cimm_jax.networks.backbone import Backbone
from cimm_jax.runs.codec import encode
from cimm_jax.runs.network_subject import NetworkSubject
from cimm_jax.tasks import Task, TaskPair
from cimm_jax.views.render.picture import legend_below, png_bytes
from cimm_jax.views.render.terminal import print_table
from experiments.common import parser
from experiments.intervals import half_width, over_seeds, with_width
from experiments.resumed import resumed
from experiments.table3_deepnets import CONFIGURATIONS, source_of

CLASSES = 10
IMAGE_ROWS, RESERVED = 8000, 0.5
MAPS = ("erase", "pencil_signal")
FEW = 20
"""Images a class of attackers who have few."""
LINEAR, NONLINEAR = ("ridge regression", "unscaled ridge regression"), ("kernel ridge",)
BATCH = 250
WHITENING_RIDGE = 1e-3
"""Of the mean eigenvalue, where directions of labels are compared."""


class Proxy(NamedTuple):
    """What a defence is made from.

    Attributes:
      x: features of the published network, shape (N, d), float64.
      labels: shape (N,), from 0.
    """

    x: np.ndarray
    labels: np.ndarray


class Scene(NamedTuple):
    """Images and features that all seeds share.

    Attributes:
      network: the published one.
      primary: features and labels of the primary training images.
      pixels: of the harmful images that the defender could have, uint8, shape (N, 32, 32, 3).
      labels: of these.
      attackers: features and labels of the attackers' images.
      judge: of those that judge.
    """

    network: Backbone
    primary: Proxy
    pixels: np.ndarray
    labels: np.ndarray
    attackers: Proxy
    judge: Proxy


def main() -> None:
    """Runs the seeds that are not finished, tabulates, draws and says what follows."""
    settings = _settings()
    jax.config.update("jax_enable_x64", True)
    folder = output_folder(settings.out)
    source = source_of(
        CONFIGURATIONS["resnet20_mnist"], settings.data_dir, settings.out, image_rows=IMAGE_ROWS, reserved=RESERVED
    )
    subject = NetworkSubject(source, settings.cache)
    made_by = {"data": subject.checksums(), "rows": settings.rows}
    wanted = [{"seed": settings.seed + number} for number in range(settings.seeds)]
    scene = _scene(subject)
    records = resumed(
        folder / "seeds.json",
        wanted,
        partial(_one_seed, scene, settings.rows),
        made_by=made_by,
        at_once=1,
    )
    table = tabulated(records)
    likeness = predictors(records)
    results = {
        "command": f"--seeds {settings.seeds} --rows {settings.rows}",
        "table": encode(table),
        "spearman": likeness,
    }
    write_json(folder / "results.json", results)
    write_whole(folder / "proxy_data.png", _picture(table))
    _print(table, likeness)
    print(f"\n{verdict(table, likeness)}\nFigures and picture: {folder}")


def _settings() -> argparse.Namespace:
    made = parser(__doc__, "runs/proxy_data")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--rows", type=int, default=2000, help="of each proxy, at most")
    made.add_argument("--cache", type=Path, help="folder that keeps features between runs")
    return made.parse_args()


def _scene(subject: NetworkSubject) -> Scene:
    network, features = subject.network, subject.published
    attackers, heldout = subject.attackers_images, features.harmful.heldout
    assert heldout is not None
    return Scene(
        network,
        Proxy(np.asarray(features.primary.train.x, np.float64), features.primary.train.labels),
        _pixels(subject.images["harmful"].train),
        subject.images["harmful"].train.labels,
        Proxy(features_of(network, _pixels(attackers)), attackers.labels),
        Proxy(np.asarray(heldout.x, np.float64), heldout.labels),
    )


def _pixels(images: ImageSet) -> np.ndarray:
    return np.stack([images.pixels[number] for number in range(len(images))])


def features_of(network: Backbone, pixels: np.ndarray) -> np.ndarray:
    """Features of images, shape (N, d), float64."""
    compiled = jax.jit(lambda x: network.features(network.config.preprocess(x)))
    filled = np.concatenate([pixels, np.zeros((-len(pixels) % BATCH, *pixels.shape[1:]), pixels.dtype)])
    parts = [np.asarray(compiled(filled[start : start + BATCH])) for start in range(0, len(filled), BATCH)]
    return np.concatenate(parts)[: len(pixels)].astype(np.float64)


def proxies(scene: Scene, rows: int, rng: np.random.Generator) -> dict[str, Proxy]:
    """All of them, by name; at most so many rows each."""
    chosen = rng.permutation(len(scene.labels))[:rows]
    pixels, labels = scene.pixels[chosen], scene.labels[chosen]
    seen = partial(features_of, scene.network)
    x, order = seen(pixels), rng.permutation(CLASSES)
    found = {"other images": Proxy(x, labels)}
    for count in (8, 5, 2):
        mine = np.isin(labels, order[:count])
        found[f"{count} of {CLASSES} classes"] = Proxy(x[mine], labels[mine])
    for strength in (32, 96):
        noise = rng.normal(0, strength, pixels.shape)
        found[f"noise of {strength}"] = Proxy(seen(np.clip(pixels + noise, 0, 255).astype(np.uint8)), labels)
    found["moved and mirrored"] = Proxy(seen(_moved(pixels, rng)), labels)
    found["inverted"] = Proxy(seen(255 - pixels), labels)
    small, of_small = load_digits(return_X_y=True)
    blown_up = np.kron(small.reshape(-1, 8, 8), np.ones((4, 4))) * (255 / 16)
    found["another data set"] = Proxy(
        seen(np.repeat(blown_up[..., None], 3, -1).astype(np.uint8)), np.asarray(of_small)
    )
    found["moments of classes"] = _drawn_from_moments(found["other images"], rng)
    found["no labels"] = Proxy(x, _clusters(x, rng))
    nothing = seen(rng.integers(0, 256, pixels.shape, np.uint8))
    found["images of noise"] = Proxy(nothing, _clusters(nothing, rng))
    return found


def _moved(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """By up to four pixels along both sides, and half of them mirrored."""
    moved = [np.roll(image, rng.integers(-4, 5, 2), (0, 1)) for image in pixels]
    return np.stack(
        [image[:, ::-1] if flip else image for image, flip in zip(moved, rng.random(len(moved)) < 0.5, strict=True)]
    )


def _drawn_from_moments(of: Proxy, rng: np.random.Generator) -> Proxy:
    """Normal numbers with the means of the classes and the covariance within them."""
    means = np.stack([of.x[of.labels == label].mean(0) for label in range(CLASSES)])
    within = np.cov((of.x - means[of.labels]).T)
    return Proxy(means[of.labels] + rng.multivariate_normal(np.zeros(len(within)), within, len(of.x)), of.labels)


def _clusters(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    clusters = KMeans(CLASSES, n_init=4, random_state=int(rng.integers(2**31)))  # pyright: ignore
    return clusters.fit_predict(x).astype(np.int64)


def _one_seed(scene: Scene, rows: int, seed: int) -> dict[str, Any]:
    """By map, proxy, budget and kind of head: accuracy; and the likeness of each proxy."""
    rng = np.random.default_rng(seed)
    made = proxies(scene, rows, rng)
    primary = _task(scene.primary)
    maps = {UNDEFENDED: np.eye(scene.primary.x.shape[1])}
    for name in MAPS:
        method = methods.by_name(name)()
        for proxy, of in made.items():
            theta = methods.immunize(method, TaskPair(primary, _task(of)), key=jax.random.key(seed)).theta
            maps[f"{name}: {proxy}"] = np.asarray(theta)
    few = np.concatenate(
        [rng.permutation(np.flatnonzero(scene.attackers.labels == label))[:FEW] for label in range(CLASSES)]
    )
    budgets = {f"{FEW} a class": few, "all": np.arange(len(scene.attackers.labels))}
    accuracy = {budget: _attacked(scene, maps, numbers, seed) for budget, numbers in budgets.items()}
    return {"accuracy": accuracy, "likeness": {name: likeness(of, scene.attackers) for name, of in made.items()}}


def _task(of: Proxy) -> Task:
    """With centred one-hot targets of the classes that there are."""
    _, labels = np.unique(of.labels, return_inverse=True)
    return Task(of.x, centred(one_hot(labels, int(labels.max()) + 1)))


def _attacked(
    scene: Scene, maps: Mapping[str, np.ndarray], numbers: np.ndarray, seed: int
) -> dict[str, dict[str, float]]:
    """Best accuracy of the linear and of the nonlinear heads behind each map."""
    train = (scene.attackers.x[numbers], scene.attackers.labels[numbers])
    task = class_task(train, (scene.judge.x, scene.judge.labels), classes=CLASSES, squared=True)
    targets = {name: behind(jnp.asarray(theta), task) for name, theta in maps.items()}
    found: dict[str, dict[str, float]] = {name: {} for name in maps}
    for kind, heads in (("linear", LINEAR), ("nonlinear", NONLINEAR)):
        operators = head_operators(heads, classes=CLASSES, steps=1)
        swept = attacks.sweep_classes(operators, targets, keys=jax.random.split(jax.random.key(seed), 1))
        for number, name in enumerate(maps):
            found[name][kind] = max(float(one.accuracy[number, ..., -1].mean(-1).max()) for one in swept.values())
    return found


def likeness(proxy: Proxy, target: Proxy) -> dict[str, float]:
    """Of a proxy to the target, by several measures; larger is more alike but for the limit."""
    pair = TaskPair(_task(proxy), _task(target))
    k_proxy, k_target = (task.x.T @ task.x for task in pair)
    cosine = np.sum(k_proxy * k_target) / (np.linalg.norm(k_proxy) * np.linalg.norm(k_target))
    return {
        "label directions": shared_directions(*pair),
        "alignment": float(alignment(pair).score),
        "cosine": float(cosine),
        "log limit": float(pair_limit(pair).log_rir),
    }


def shared_directions(proxy: Task, target: Task) -> float:
    """Share of the target's label signal, whitened by its covariance, in the span of the proxy's label directions."""
    centred_x = [task.x - task.x.mean(0) for task in (proxy, target)]
    covariance = centred_x[1].T @ centred_x[1] / len(centred_x[1])
    values, vectors = np.linalg.eigh(covariance)
    whitening = (vectors / np.sqrt(values + WHITENING_RIDGE * values.mean())) @ vectors.T
    signals = [
        whitening @ x.T @ np.asarray(task.y) / len(x) for x, task in zip(centred_x, (proxy, target), strict=True)
    ]
    span, sigma, _ = np.linalg.svd(signals[0], full_matrices=False)
    span = span[:, sigma > 1e-8 * sigma[0]]
    return float(np.sum((span.T @ signals[1]) ** 2) / np.sum(signals[1] ** 2))


def tabulated(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By map, proxy, budget and head: the share removed of what is above guessing, its mean and 95 % interval over seeds."""
    rows = []
    first = records[0]["accuracy"]
    for budget, by_map in first.items():
        for name in by_map:
            if name == UNDEFENDED:
                continue
            method, proxy = name.split(": ")
            for kind in by_map[name]:
                removed = over_seeds([_removed(record, budget, name, kind) for record in records])
                accuracy = float(np.mean([record["accuracy"][budget][name][kind] for record in records]))
                rows.append(
                    {
                        "map": method,
                        "proxy": proxy,
                        "budget": budget,
                        "heads": kind,
                        "accuracy": accuracy,
                        "removed": removed,
                    }
                )
    return rows


def _removed(record: Mapping[str, Any], budget: str, name: str, kind: str) -> float:
    undefended, defended = (record["accuracy"][budget][of][kind] for of in (UNDEFENDED, name))
    return (undefended - defended) / (undefended - 1 / CLASSES)


def predictors(records: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By map and measure of likeness, Spearman's rho with what is removed of linear heads' figures with few images."""
    measures = next(iter(records[0]["likeness"].values()))
    found: dict[str, dict[str, float]] = {method: {} for method in MAPS}
    for method in MAPS:
        for measure in measures:
            alike, removed = [], []
            for record in records:
                for proxy, of in record["likeness"].items():
                    alike.append(of[measure])
                    removed.append(_removed(record, f"{FEW} a class", f"{method}: {proxy}", "linear"))
            found[method][measure] = float(spearmanr(alike, removed)[0])  # pyright: ignore
    return found


def verdict(table: list[dict[str, Any]], likeness: Mapping[str, Mapping[str, float]]) -> str:
    """One sentence that a reader could refute."""
    found = {
        row["proxy"]: row["removed"].estimate
        for row in table
        if (row["map"], row["budget"], row["heads"]) == ("erase", f"{FEW} a class", "linear")
    }
    best = max(likeness["erase"], key=lambda measure: abs(likeness["erase"][measure]))
    return (
        f"Made from other images of the target, erase removes {found['other images']:.0%} of what linear heads get with {FEW} "
        f"images a class; from half of the classes {found[f'5 of {CLASSES} classes']:.0%}, from another data set "
        f"{found['another data set']:.0%}, without labels {found['no labels']:.0%}, from images of noise "
        f"{found['images of noise']:.0%}; what says it beforehand is {best} (rho {likeness['erase'][best]:.2f})."
    )


def _print(table: list[dict[str, Any]], likeness: Mapping[str, Mapping[str, float]]) -> None:
    for method in MAPS:
        mine = [row for row in table if row["map"] == method]
        cells: dict[str, dict[str, str]] = {}
        for row in mine:
            said = f"{with_width(row['removed'])} ({row['accuracy']:.3f})"
            cells.setdefault(row["proxy"], {})[f"{row['heads']}, {row['budget']}"] = said
        rows = [[proxy, *of.values()] for proxy, of in cells.items()]
        print_table(["proxy", *next(iter(cells.values()))], rows, title=f"{method}: share removed (accuracy)")
    rows = [[method, *of.values()] for method, of in likeness.items()]
    print_table(["rho with what is removed", *likeness[MAPS[0]]], rows, title="Which likeness predicts it")


def _picture(table: list[dict[str, Any]]) -> bytes:
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7.5, 6.0), layout="constrained")
    axes = drawing.subplots()
    names = list(dict.fromkeys(row["proxy"] for row in table))
    kinds = [(method, heads) for method in MAPS for heads in ("linear", "nonlinear")]
    for number, (method, heads) in enumerate(kinds):
        mine = [row for row in table if (row["map"], row["heads"], row["budget"]) == (method, heads, f"{FEW} a class")]
        places = [names.index(row["proxy"]) + 0.15 * (number - 1.5) for row in mine]
        removed, widths = [row["removed"].estimate for row in mine], [half_width(row["removed"]) for row in mine]
        axes.errorbar(removed, places, xerr=widths, fmt="o", markersize=4, label=f"{method}, {heads} heads")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(0, color="0.6", linewidth=0.8)
    axes.set(xlabel=f"share removed of what is above guessing, {FEW} images a class")
    axes.grid(alpha=0.25)
    legend_below(drawing, columns=2)
    return png_bytes(drawing)


if __name__ == "__main__":
    main()
