"""Several harmful tasks at once, and one that nobody thought of: a map for a list against a map for each alone.

ResNet20 on CIFAR-10 is the published network. Up to four tasks are blocked by one map of its features, over every list of them:

* MNIST, and other images of it with inverted colours;
* scikit-learn's digits, enlarged to 32x32;
* turned: by which of four right angles an image of CIFAR-10 was turned.

Maps are made from the list as one harmful task (`cimm_jax.join_tasks`): `erase` keeps what the best primary heads look at and
removes the union of the label directions; `erase, all else kept` (keep="covariance") removes these alone; `pencil_signal`
slows the sum of the normalised Hessians. Attackers of every task, in the list or not, have 20 images a class that no map was
made from, and the best of ridge regression, scaled or not, and of kernel ridge regression. Removed is the share of what the
undefended features give above guessing. The primary task pays in accuracy of its published head, fitted again behind a singular
map. Each seed draws the maps' and the attackers' images anew; intervals are over seeds.

    python -m experiments.many_harmful --data-dir DIR [--tasks MNIST turned ...] [--seeds 3] [--out runs/many_harmful]

An interrupted run goes on with the next seed when the same command is given again. Run time and result: docs/results.md.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cimm_jax import methods
from cimm_jax.attacks import UNDEFENDED
from cimm_jax.closed_form.heads import Head
from cimm_jax.data.image_arrays import load_cifar10, load_mnist_in_colour
from cimm_jax.data.image_arrays import load_digit_images as load_small_digits
from cimm_jax.data.image_set import ArrayPixels, ImageSet, SplitImages
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.networks import config_of
from cimm_jax.networks.activation_cache import cached_outputs
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.head import head_of
from cimm_jax.networks.weight_files import weights_checksum
from cimm_jax.networks.weights import load_weights
from cimm_jax.progress import progress_bar
from cimm_jax.resuming import checksum
from cimm_jax.tasks import Task, TaskPair, join_tasks
from cimm_jax.views.render.picture import legend_below, png_bytes
from cimm_jax.views.render.terminal import print_table
from experiments.behind_maps import HEADS, best_heads, centred_task, images_of_each_class
from experiments.common import CIFAR, parser
from experiments.intervals import half_width, over_seeds, with_width
from experiments.resumed import resumed
from experiments.table3_deepnets import CONFIGURATIONS

NETWORK = CONFIGURATIONS["resnet20_mnist"]
SIZE = 32
FEW = 20
"""Images a class that attackers have."""

PRIMARY_ROWS, POOL, JUDGED = 4000, 2000, 1000
"""Images of the primary task, of each harmful one that maps and attackers are given from, and that judge each."""

KEPT, SLOWED = "erase, all else kept", "pencil_signal"
MAPS: dict[str, Callable[[], methods.Method]] = {
    "erase": methods.erase,
    KEPT: partial(methods.erase, keep="covariance"),
    SLOWED: methods.pencil_signal,
}


class Blocked(NamedTuple):
    """Features of a harmful task.

    Attributes:
      pool: that maps and attackers are given from.
      judge: that judge attackers.
      classes: how many there are.
    """

    pool: Labelled
    judge: Labelled
    classes: int


class Scene(NamedTuple):
    """What all seeds share.

    Attributes:
      primary: features of the primary training images.
      kept: those that judge what the primary task keeps.
      head: the published one.
      blocked: harmful tasks by name.
    """

    primary: Labelled
    kept: Labelled
    head: Head
    blocked: Mapping[str, Blocked]


def main(arguments: Sequence[str] | None = None) -> Path:
    """Runs the seeds that are not finished, tabulates, draws and says what follows; returns the folder."""
    settings = _settings(arguments)
    jax.config.update("jax_enable_x64", True)
    folder = output_folder(settings.out)
    images = {name: TASKS[name](settings.data_dir) for name in settings.tasks}
    weights = settings.data_dir / NETWORK.weights
    made_by = {
        "images": {name: [part.sha256 for part in parts if part] for name, parts in images.items()},
        "weights": weights_checksum(weights),
        "rows": settings.rows,
    }
    scene = _scene(settings, images, weights)
    wanted = [{"seed": settings.seed + number} for number in range(settings.seeds)]
    records = resumed(
        folder / "seeds.json", wanted, partial(one_seed, scene, settings.rows), made_by=made_by, at_once=1
    )
    by_size, by_task = tabulated(records), alone_and_together(records)
    write_json(folder / "results.json", {"by_size": by_size, "by_task": by_task})
    write_whole(folder / "many_harmful.png", _picture(by_size))
    _print(by_size, by_task)
    print(f"\n{verdict(by_size, by_task)}\nFigures and picture: {folder}")
    return folder


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, "runs/many_harmful")
    made.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=tuple(TASKS), help="harmful tasks")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--rows", type=int, default=1000, help="images of each task that maps are made from, at most")
    made.add_argument("--cache", type=Path, help="folder that keeps features between runs; in OUT if left out")
    settings = made.parse_args(arguments)
    if len(set(settings.tasks)) < len(settings.tasks):
        made.error(f"argument --tasks: {' '.join(settings.tasks)} names one twice; name each once")
    if len(settings.tasks) < 2:
        made.error("argument --tasks: needs at least two, of which one can be left out")
    if settings.seeds < 1 or settings.rows < 2:
        made.error(f"needs at least 1 seed and 2 rows, got {settings.seeds} and {settings.rows}")
    return settings


def _scene(settings: argparse.Namespace, images: Mapping[str, SplitImages], weights: Path) -> Scene:
    network = load_weights(config_of(NETWORK.model, weights), weights)
    primary = load_cifar10(settings.data_dir / CIFAR)
    assert primary.heldout is not None
    primary_train = _some(primary.train, slice(0, PRIMARY_ROWS))
    wanted = [primary_train, primary.heldout, *(part for parts in images.values() for part in parts if part)]
    seen = []
    with progress_bar("features", sum(map(len, wanted))) as progress:
        for part in wanted:
            before = sum(len(one.labels) for one in seen)
            x = cached_outputs(
                settings.cache or settings.out / "cache",
                network,
                part,
                weights_sha256=weights_checksum(weights),
                progress=lambda made, before=before: progress(before + made),
            )
            seen.append(Labelled(np.asarray(x, np.float64), part.labels))
    train, kept, *others = seen
    blocked = {
        name: Blocked(pool, judge, len(images[name].train.classes))
        for name, pool, judge in zip(images, others[::2], others[1::2], strict=True)
    }
    return Scene(train, kept, head_of(network), blocked)


def _mnist(root: Path) -> SplitImages:
    return SplitImages(*(_some(part, slice(0, rows)) for part, rows in _digits(root)))


def _inverted(root: Path) -> SplitImages:
    return SplitImages(*(_changed(_some(part, slice(rows, 2 * rows)), np.invert) for part, rows in _digits(root)))


def _digits(root: Path) -> list[tuple[ImageSet, int]]:
    train, heldout = load_mnist_in_colour(root / NETWORK.harmful, rows=2 * POOL)
    assert heldout is not None
    return [(train, POOL), (heldout, JUDGED)]


def _enlarged(root: Path) -> SplitImages:
    del root
    train, heldout = load_small_digits()
    assert heldout is not None

    def larger(pixels: np.ndarray) -> np.ndarray:
        return np.repeat(pixels.repeat(SIZE // 8, 1).repeat(SIZE // 8, 2), 3, -1)

    return SplitImages(_changed(train, larger), _changed(heldout, larger))


def _turned(root: Path) -> SplitImages:
    """Each image turned by an angle that is drawn; none of them is one of the primary task."""
    train, heldout = load_cifar10(root / CIFAR)
    assert heldout is not None
    parts = (
        _some(train, slice(PRIMARY_ROWS, PRIMARY_ROWS + POOL)),
        _some(heldout, slice(len(heldout) - JUDGED, None)),
    )
    rng = np.random.default_rng(0)
    found = []
    for part in parts:
        turns = rng.integers(0, 4, len(part))
        pixels = np.stack([np.rot90(image, turn) for image, turn in zip(_pixels(part), turns, strict=True)])
        found.append(_image_set(pixels, turns, ("0", "90", "180", "270")))
    return SplitImages(*found)


TASKS: dict[str, Callable[[Path], SplitImages]] = {
    "MNIST": _mnist,
    "inverted": _inverted,
    "digits": _enlarged,
    "turned": _turned,
}
"""Images of each harmful task, from the folder of data."""


def _pixels(images: ImageSet) -> np.ndarray:
    return np.stack([images.pixels[number] for number in range(len(images))])


def _some(images: ImageSet, rows: slice) -> ImageSet:
    places = range(len(images))[rows]
    return _image_set(np.stack([images.pixels[place] for place in places]), images.labels[rows], images.classes)


def _changed(images: ImageSet, change: Callable[[np.ndarray], np.ndarray]) -> ImageSet:
    return _image_set(change(_pixels(images)), images.labels, images.classes)


def _image_set(pixels: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> ImageSet:
    return ImageSet(ArrayPixels(pixels), labels, classes, checksum([pixels, labels]))


def lists_of(tasks: Sequence[str]) -> list[tuple[str, ...]]:
    """Every list of them, the shortest first."""
    return [chosen for size in range(1, len(tasks) + 1) for chosen in combinations(tasks, size)]


def one_seed(scene: Scene, rows: int, seed: int) -> dict[str, Any]:
    """By map and list, named "map: task + task": accuracy of attackers by task and kind of head, and of the primary head.

    Raises:
      InputError: if a task has too few images.
    """
    rng = np.random.default_rng(seed)
    makers, attackers = {}, {}
    for name, task in scene.blocked.items():
        order = rng.permutation(len(task.pool.labels))
        mine = min(rows, len(order) // 2)
        makers[name] = centred_task(task.pool.x[order[:mine]], task.pool.labels[order[:mine]])
        others = order[mine:]
        few = others[images_of_each_class(task.pool.labels[others], FEW, rng)]
        if (there := len(np.unique(task.pool.labels[few]))) < task.classes:
            raise InputError(f"tasks: {name} has attackers' images of {there} of {task.classes} classes; give more")
        attackers[name] = (task.pool.x[few], task.pool.labels[few])
    primary, maps = centred_task(*scene.primary), {UNDEFENDED: np.eye(scene.primary.x.shape[1])}
    lists, everything = lists_of(tuple(scene.blocked)), join_tasks(list(makers.values()))
    with progress_bar(f"maps of seed {seed}", len(MAPS) * len(lists)) as progress:
        for method, build in MAPS.items():
            for chosen in lists:
                pair = TaskPair(primary, those_listed(everything, makers, chosen))
                theta = methods.immunize(build(), pair, key=jax.random.key(seed)).theta
                maps[f"{method}: {' + '.join(chosen)}"] = np.asarray(theta)
                progress(len(maps) - 1)
    return {
        "accuracy": {
            name: best_heads(maps, attackers[name], task.judge, classes=task.classes, seed=seed)
            for name, task in scene.blocked.items()
        },
        "guessing": {name: guessed(task.judge.labels) for name, task in scene.blocked.items()},
        "primary": {name: _primary_accuracy(scene, theta) for name, theta in maps.items()},
    }


def those_listed(everything: Task, tasks: Mapping[str, Task], chosen: Sequence[str]) -> Task:
    """The joined tasks but for those that are not listed, whose rows and targets are zero.

    Sums over rows are those of the joined list, but for one factor. Lists of all lengths have one shape, and are compiled once.

    Args:
      everything: all of them, joined.
      tasks: all of them, in that order.
      chosen: names of those listed.
    """
    listed = [name in chosen for name in tasks]
    rows = np.repeat(listed, [len(task.x) for task in tasks.values()])
    columns = np.repeat(listed, [task.y.shape[1] for task in tasks.values()])
    return Task(everything.x * rows[:, None], everything.y * columns[None, :])


def guessed(labels: np.ndarray) -> float:
    """Accuracy of whoever always says the class that most images are of."""
    return float(np.bincount(labels).max() / len(labels))


def _primary_accuracy(scene: Scene, theta: np.ndarray) -> float:
    """Of the published head behind the map, on held-out images."""
    head = scene.head.behind(theta, scene.primary.x)
    return float(np.mean(head.logits(scene.kept.x @ theta).argmax(1) == scene.kept.labels))


def removed(record: Mapping[str, Any], task: str, made: str, kind: str) -> float:
    """Share of what undefended features give above guessing that a map takes from one kind of heads."""
    undefended, defended = (record["accuracy"][task][of][kind] for of in (UNDEFENDED, made))
    return (undefended - defended) / (undefended - record["guessing"][task])


def tabulated(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By map and length of the list, means over lists and tasks, seed by seed.

    "listed" and "unlisted" are shares removed of tasks in the list and of those that are not, by kind of head; "cost" is the
    primary accuracy lost.
    """
    tasks = tuple(records[0]["accuracy"])
    rows = []
    for method in MAPS:
        for size in range(1, len(tasks) + 1):
            lists = list(combinations(tasks, size))

            def mean(record, kind, listed, method=method, lists=lists):
                found = [
                    removed(record, task, _named(method, chosen), kind)
                    for chosen in lists
                    for task in tasks
                    if (task in chosen) == listed
                ]
                return float(np.mean(found))

            rows.append(
                {
                    "map": method,
                    "size": size,
                    "listed": {kind: [mean(record, kind, True) for record in records] for kind in HEADS},
                    "unlisted": {kind: [mean(record, kind, False) for record in records] for kind in HEADS}
                    if size < len(tasks)
                    else None,
                    "cost": [
                        float(np.mean([_cost(record, _named(method, chosen)) for chosen in lists]))
                        for record in records
                    ],
                }
            )
    return rows


def alone_and_together(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By map and task, seed by seed: removed by kind of head with a map for it alone, for all, and for all others; its cost."""
    tasks = tuple(records[0]["accuracy"])
    rows = []
    for method in MAPS:
        for task in tasks:
            lists = {"alone": (task,), "all": tasks, "others": tuple(name for name in tasks if name != task)}
            shares = {
                of: {
                    kind: [removed(record, task, _named(method, chosen), kind) for record in records] for kind in HEADS
                }
                for of, chosen in lists.items()
            }
            cost = {of: [_cost(record, _named(method, chosen)) for record in records] for of, chosen in lists.items()}
            undefended = {kind: [record["accuracy"][task][UNDEFENDED][kind] for record in records] for kind in HEADS}
            rows.append({"map": method, "task": task, **shares, "cost": cost, "undefended": undefended})
    return rows


def _named(method: str, chosen: Sequence[str]) -> str:
    return f"{method}: {' + '.join(chosen)}"


def _cost(record: Mapping[str, Any], made: str) -> float:
    return record["primary"][UNDEFENDED] - record["primary"][made]


def verdict(by_size: Sequence[Mapping[str, Any]], by_task: Sequence[Mapping[str, Any]]) -> str:
    """One sentence that a reader could refute."""
    sizes = {(row["map"], row["size"]): row for row in by_size}
    most = max(size for _, size in sizes)

    def share(row: Mapping[str, Any], of: str, kind: str) -> str:
        return f"{over_seeds(row[of][kind]).estimate:.0%}"

    def points(method: str, size: int) -> str:
        return f"{100 * over_seeds(sizes[method, size]['cost']).estimate:.1f}"

    alone, together, left_out = sizes["erase", 1], sizes["erase", most], sizes["erase", most - 1]
    worst = min(
        (row for row in by_task if row["map"] == "erase"), key=lambda row: over_seeds(row["all"]["linear"]).estimate
    )
    return (
        f"One eraser for all {most} tasks removes {share(together, 'listed', 'linear')} of what linear and "
        f"{share(together, 'listed', 'nonlinear')} of what nonlinear heads get with {FEW} images a class (one for each alone "
        f"{share(alone, 'listed', 'linear')} and {share(alone, 'listed', 'nonlinear')}; least {worst['task']}, "
        f"{share(worst, 'all', 'linear')}), for {points('erase', most)} points of primary accuracy (alone "
        f"{points('erase', 1)}); of a task that is not among the {most - 1} of the list it removes "
        f"{share(left_out, 'unlisted', 'linear')} and {share(left_out, 'unlisted', 'nonlinear')}, but only "
        f"{share(sizes[KEPT, most - 1], 'unlisted', 'linear')} and {share(sizes[KEPT, most - 1], 'unlisted', 'nonlinear')} "
        "where all else is kept."
    )


def _print(by_size: Sequence[Mapping[str, Any]], by_task: Sequence[Mapping[str, Any]]) -> None:
    kinds = [(of, kind) for of in ("listed", "unlisted") for kind in HEADS]
    rows = [
        [
            row["map"],
            row["size"],
            *("" if row[of] is None else with_width(over_seeds(row[of][kind])) for of, kind in kinds),
            with_width(over_seeds(100 * np.array(row["cost"])), 1),
        ]
        for row in by_size
    ]
    print_table(
        ["map", "tasks", *(f"{of}, {kind}" for of, kind in kinds), "points lost"],
        rows,
        title="share removed, by length of the list",
    )
    for kind in HEADS:
        rows = [
            [
                row["map"],
                row["task"],
                with_width(over_seeds(row["undefended"][kind]), 3),
                *(with_width(over_seeds(row[of][kind])) for of in ("alone", "all", "others")),
                *(with_width(over_seeds(100 * np.array(row["cost"][of])), 1) for of in ("alone", "all", "others")),
            ]
            for row in by_task
        ]
        columns = [
            "map",
            "task",
            "undefended accuracy",
            "alone",
            "all",
            "all others",
            "points lost alone",
            "all",
            "others",
        ]
        print_table(columns, rows, title=f"share removed of {kind} heads, by task")


def _picture(by_size: Sequence[Mapping[str, Any]]) -> bytes:
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(8.5, 3.8), layout="constrained")
    *heads, cost = drawing.subplots(1, len(HEADS) + 1)
    colours = dict(zip(MAPS, ("C0", "C1", "C2"), strict=True))
    for method, colour in colours.items():
        mine = [row for row in by_size if row["map"] == method]
        for axes, kind in zip(heads, HEADS, strict=True):
            for of, line in (("listed", "-"), ("unlisted", "--")):
                found = [(row["size"], over_seeds(row[of][kind])) for row in mine if row[of] is not None]
                _drawn(axes, found, colour, line, f"{method}, task {'in' if of == 'listed' else 'not in'} the list")
        _drawn(cost, [(row["size"], over_seeds(100 * np.array(row["cost"]))) for row in mine], colour, "-", None)
    for axes, kind in zip(heads, HEADS, strict=True):
        axes.set(title=f"{kind} heads", ylim=(-0.1, 1.1))
        axes.axhline(0, color="0.6", linewidth=0.8)
    heads[0].set_ylabel("share removed")
    cost.set(title="primary task", ylabel="points of accuracy lost")
    for axes in (*heads, cost):
        axes.set_xlabel("tasks in the list")
        axes.set_xticks(sorted({row["size"] for row in by_size}))
        axes.grid(alpha=0.25)
    legend_below(drawing, columns=3, fontsize=8)
    return png_bytes(drawing)


def _drawn(axes: Any, found: Sequence[tuple[int, Any]], colour: str, line: str, label: str | None) -> None:
    axes.errorbar(
        [size for size, _ in found],
        [one.estimate for _, one in found],
        yerr=[half_width(one) for _, one in found],
        color=colour,
        linestyle=line,
        marker="o",
        markersize=3,
        capsize=2,
        label=label,
    )


if __name__ == "__main__":
    main()
