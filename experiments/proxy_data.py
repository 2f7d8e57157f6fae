"""Immunized against a proxy, attacked with the real thing: the paper's third open question.

Whoever defends may not have the data that attackers will. ResNet20 on CIFAR-10 is the published network, MNIST the blocked
task; maps of its features, and its last block, are made from something else and attacked with MNIST itself:

* the attackers' own images, which is no proxy: the target itself, and said to be;
* other images of the same classes (what all other experiments have), of eight, five and two of the ten;
* changed copies: noise of two strengths, moved by up to four pixels and mirrored, colours inverted;
* another data set of the same kind: scikit-learn's digits;
* moments alone: normal numbers with the mean of each class and the covariance within;
* no labels: the images, in ten clusters of their features (k-means);
* nothing: images of noise, in ten clusters.

Maps: `erase`, which takes what linear heads read of the proxy's labels, and `pencil_signal`. The block is trained by
`best_response`, from some of the proxies that are images (`hidden_blocks`: few and small steps). Attackers have 20 images a
class and the best of ridge regression, scaled or not, and of kernel ridge regression. Removed is the share of what the
undefended features give above guessing. Each seed draws proxies and attackers' images anew; intervals are over seeds.

Which likeness of proxy and target says beforehand how much is removed: Spearman's rho over proxies and seeds, the target itself
left out, of

* label directions: share of the target's label signal (whitened by its covariance) in the span of the proxy's;
* alignment of the covariances' leading ten directions; the cosine of the covariances; log of the pencil's limit between them.

    python -m experiments.proxy_data --data-dir DIR [--seeds 3] [--steps 30] [--out runs/proxy_data]

An interrupted run goes on when the same command is given again. Run time and result: docs/results.md.
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.stats import spearmanr

from cimm_jax import methods
from cimm_jax.attacks import UNDEFENDED, Target, class_task
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.networks import functional
from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.head import head_of
from cimm_jax.networks.tails import tail_features
from cimm_jax.progress import progress_bar
from cimm_jax.runs.codec import encode
from cimm_jax.runs.network_subject import NetworkSubject
from cimm_jax.tasks import TaskPair
from cimm_jax.views.render.picture import legend_below, png_bytes
from cimm_jax.views.render.terminal import print_table
from experiments.behind_maps import best_heads, best_heads_on, images_of_each_class
from experiments.common import parser
from experiments.hidden_blocks import BATCH, trained_to_hide
from experiments.intervals import half_width, over_seeds, with_width
from experiments.proxies import (
    CLASSES,
    CUT,
    TARGET,
    Proxy,
    Scene,
    likeness,
    open_scene,
    proxies,
    share_of_target,
    some,
    task_of,
)
from experiments.resumed import resumed
from experiments.table3_deepnets import CONFIGURATIONS, source_of

IMAGE_ROWS, RESERVED = 2000, 0.5
MAPS, BLOCK = ("erase", "pencil_signal"), "block"
DEFENCES = (*MAPS, BLOCK)
HIDDEN = (
    TARGET,
    "other images",
    f"5 of {CLASSES} classes",
    f"2 of {CLASSES} classes",
    "inverted",
    "another data set",
    "no labels",
    "images of noise",
)
"""What the block is trained from."""

FEW = 20
"""Images a class that attackers have."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Runs the seeds that are not finished, tabulates, draws and says what follows; returns the folder."""
    settings = _settings(arguments)
    jax.config.update("jax_enable_x64", True)
    folder = output_folder(settings.out)
    source = source_of(
        CONFIGURATIONS["resnet20_mnist"], settings.data_dir, settings.out, image_rows=IMAGE_ROWS, reserved=RESERVED
    )
    subject = NetworkSubject(source, settings.cache or folder / "cache")
    made_by = {
        "data": subject.checksums(),
        "rows": settings.rows,
        "steps": settings.steps,
        "cut": CUT,
        "hidden": HIDDEN,
        **BATCH,
    }
    wanted = [{"seed": settings.seed + number} for number in range(settings.seeds)]
    at = cache(lambda: open_scene(subject))  # not looked at where every seed is finished
    records = resumed(
        folder / "seeds.json",
        wanted,
        lambda seed: _one_seed(at(), settings.rows, settings.steps, seed),
        made_by=made_by,
        at_once=1,
    )
    table, likeness = tabulated(records), predictors(records)
    results = {
        "command": f"--seeds {settings.seeds} --rows {settings.rows} --steps {settings.steps}",
        "table": encode(table),
        "spearman": likeness,
    }
    write_json(folder / "results.json", results)
    write_whole(folder / "proxy_data.png", _picture(table))
    _print(table, likeness)
    print(f"\n{verdict(table, likeness)}\nFigures and picture: {folder}")
    return folder


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, "runs/proxy_data")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--rows", type=int, default=700, help="of each proxy, at most")
    made.add_argument("--steps", type=int, default=30, help="of each training of the block")
    made.add_argument("--cache", type=Path, help="folder that keeps activations between runs; in OUT if left out")
    settings = made.parse_args(arguments)
    for name, least in (("seeds", 1), ("rows", 100), ("steps", 1)):
        if getattr(settings, name) < least:
            made.error(f"argument --{name}: needs at least {least}, got {getattr(settings, name)}")
    return settings


def _one_seed(scene: Scene, rows: int, steps: int, seed: int) -> dict[str, Any]:
    """By defence and proxy, and kind of head: accuracy; primary accuracy of blocks; the likeness of each proxy."""
    rng = np.random.default_rng(seed)
    made = proxies(scene, rows, rng)
    attackers, judge = some(scene.attackers, images_of_each_class(scene.attackers.labels, FEW, rng)), scene.judge
    maps, networks = _maps(scene, made, seed), _networks(scene, made, seed, steps)
    targets = {
        f"{BLOCK}: {name}": Target(
            *class_task(
                *((_features(network, of), of.labels) for of in (attackers, judge)), classes=CLASSES, squared=True
            )
        )
        for name, network in networks.items()
    }
    tried = best_heads(maps, (attackers.x, attackers.labels), (judge.x, judge.labels), classes=CLASSES, seed=seed)
    return {
        "accuracy": tried | best_heads_on(targets, classes=CLASSES, seed=seed),
        "primary": {name: _primary(network, scene.kept) for name, network in networks.items()}
        | {UNDEFENDED: _primary(scene.network, scene.kept)},
        "likeness": {name: likeness(of, scene.attackers) for name, of in made.items()},
        "of_target": {name: share_of_target(of, scene.attackers) for name, of in made.items()},
    }


def _maps(scene: Scene, made: Mapping[str, Proxy], seed: int) -> dict[str, np.ndarray]:
    """By map and proxy, the undefended identity first."""
    primary = task_of(scene.primary)
    maps = {UNDEFENDED: np.eye(scene.primary.x.shape[1])}
    for name in MAPS:
        method = methods.by_name(name)()
        for proxy, of in made.items():
            theta = methods.immunize(method, TaskPair(primary, task_of(of)), key=jax.random.key(seed)).theta
            maps[f"{name}: {proxy}"] = np.asarray(theta)
    return maps


def _networks(scene: Scene, made: Mapping[str, Proxy], seed: int, steps: int) -> dict[str, Backbone]:
    """By proxy, the network whose last block was trained to hide it."""
    primary, networks = _labelled(scene.primary), {}
    with progress_bar("trainings", len(HIDDEN)) as progress:
        for number, name in enumerate(HIDDEN):
            harmful = _labelled(made[name])
            networks[name] = trained_to_hide(scene.network, CUT, primary, harmful, seed=seed, steps=steps)
            progress(number + 1)
    return networks


def _labelled(of: Proxy) -> Labelled:
    """Activations, with the classes that there are numbered from 0."""
    assert of.activations is not None  # those who ask have looked
    return Labelled(of.activations, np.unique(of.labels, return_inverse=True)[1])


def _features(network: Backbone, of: Proxy) -> np.ndarray:
    assert of.activations is not None  # attackers and judges have images
    return tail_features(functional.split(network, CUT), of.activations, CUT)


def _primary(network: Backbone, kept: Labelled) -> float:
    features = tail_features(functional.split(network, CUT), np.asarray(kept.x), CUT)
    return float(np.mean(head_of(network).logits(features).argmax(1) == kept.labels))


def tabulated(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By defence, proxy and kind of head: what is removed of what is above guessing, over seeds; and what was the target's.

    `primary` is the primary accuracy of trained blocks, over seeds; None of maps. `of_target` is the share of a proxy's rows
    that are rows of the target.
    """
    rows = []
    for name, kinds in records[0]["accuracy"].items():
        if name == UNDEFENDED:
            continue
        defence, proxy = name.split(": ")
        kept = [record["primary"].get(proxy) for record in records] if defence == BLOCK else None
        for kind in kinds:
            rows.append(
                {
                    "defence": defence,
                    "proxy": proxy,
                    "heads": kind,
                    "accuracy": float(np.mean([record["accuracy"][name][kind] for record in records])),
                    "removed": over_seeds([_removed(record, name, kind) for record in records]),
                    "primary": None if kept is None else over_seeds(kept),
                    "of_target": float(np.mean([record["of_target"][proxy] for record in records])),
                }
            )
    return rows


def _removed(record: Mapping[str, Any], name: str, kind: str) -> float:
    undefended, defended = (record["accuracy"][of][kind] for of in (UNDEFENDED, name))
    return (undefended - defended) / (undefended - 1 / CLASSES)


def predictors(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """By defence and measure of likeness, Spearman's rho with what is removed of linear heads' figures.

    What has rows of the target is no proxy, and does not count.
    """
    measures = next(iter(records[0]["likeness"].values()))
    found: dict[str, dict[str, float]] = {defence: {} for defence in DEFENCES}
    for defence in DEFENCES:
        for measure in measures:
            alike, removed = [], []
            for record in records:
                for proxy, of in record["likeness"].items():
                    name = f"{defence}: {proxy}"
                    if name not in record["accuracy"] or record["of_target"][proxy]:
                        continue
                    alike.append(of[measure])
                    removed.append(_removed(record, name, "linear"))
            found[defence][measure] = float(spearmanr(alike, removed)[0])  # pyright: ignore
    return found


def verdict(table: Sequence[Mapping[str, Any]], likeness: Mapping[str, Mapping[str, float]]) -> str:
    """One sentence that a reader could refute."""
    found = {(row["defence"], row["proxy"]): row["removed"].estimate for row in table if row["heads"] == "linear"}

    def both(proxy: str) -> str:
        return f"{found['erase', proxy]:.0%} and {found[BLOCK, proxy]:.0%}"

    best = {name: max(likeness[name], key=lambda measure: abs(likeness[name][measure])) for name in ("erase", BLOCK)}
    return (
        f"Made from other images of the target, erase and a trained block remove {both('other images')} of what linear heads "
        f"get with {FEW} images a class; from half of the classes {both(f'5 of {CLASSES} classes')}, from another data set "
        f"{both('another data set')}, without labels {both('no labels')}, from images of noise {both('images of noise')}; what "
        f"says it beforehand is {best['erase']} for erase (rho {likeness['erase'][best['erase']]:.2f}) and {best[BLOCK]} for "
        f"the block ({likeness[BLOCK][best[BLOCK]]:.2f})."
    )


def _print(table: Sequence[Mapping[str, Any]], likeness: Mapping[str, Mapping[str, float]]) -> None:
    for defence in DEFENCES:
        cells: dict[str, dict[str, str]] = {}
        for row in table:
            if row["defence"] == defence:
                said = f"{with_width(row['removed'])} ({row['accuracy']:.2f})"
                of = {} if row["primary"] is None else {"primary": with_width(row["primary"], 3)}
                cells.setdefault(labelled_proxy(row), of)[row["heads"]] = said
        rows = [[proxy, *of.values()] for proxy, of in cells.items()]
        print_table(
            ["proxy", *next(iter(cells.values()))],
            rows,
            title=f"{defence}: share removed of what heads get with {FEW} images a class (accuracy)",
        )
    rows = [[defence, *(f"{rho:.2f}" for rho in of.values())] for defence, of in likeness.items()]
    print_table(["rho with what is removed", *likeness[DEFENCES[0]]], rows, title="Which likeness predicts it")


def labelled_proxy(row: Mapping[str, Any]) -> str:
    """The proxy's name; of what has rows of the target, that it is none or how many are, so that nobody takes it for one."""
    if not row["of_target"]:
        return row["proxy"]
    said = "no proxy" if row["of_target"] == 1 else f"{row['of_target']:.0%} the target's"
    return f"{row['proxy']} ({said})"


def _picture(table: Sequence[Mapping[str, Any]]) -> bytes:
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7.5, 7.0), layout="constrained")
    axes = drawing.subplots()
    names = list(dict.fromkeys(labelled_proxy(row) for row in table))
    kinds = [(defence, heads) for defence in DEFENCES for heads in ("linear", "nonlinear")]
    for number, (defence, heads) in enumerate(kinds):
        mine = [row for row in table if (row["defence"], row["heads"]) == (defence, heads)]
        places = [names.index(labelled_proxy(row)) + 0.13 * (number - 2.5) for row in mine]
        axes.errorbar(
            [row["removed"].estimate for row in mine],
            places,
            xerr=[half_width(row["removed"]) for row in mine],
            fmt="o" if heads == "linear" else "s",
            color=f"C{DEFENCES.index(defence)}",
            markersize=4,
            label=f"{defence}, {heads} heads",
        )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.axvline(0, color="0.6", linewidth=0.8)
    axes.set(xlabel=f"share removed of what is above guessing, {FEW} images a class")
    axes.grid(alpha=0.25)
    legend_below(drawing, columns=3)
    return png_bytes(drawing)


if __name__ == "__main__":
    main()
