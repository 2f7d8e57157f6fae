"""lambda_H against lambda_P, the paper's ablation: what Algorithm 1 protects for what it costs of the primary task.

Both lambdas are balanced first (a term's first gradient is as long as the primary loss's), then multiplied by two factors. "No
penalties" (both factors 0) is the same training without them, and what accuracy is lost is counted from there.

* linear: embedded digits, five of them (drawn by the seed) the primary task, the other five the harmful one; theta from the
  identity and a primary head, 300 full-batch steps. All factors and seeds are one vmapped program.
* resnet20: its last two blocks trained as in `table3_tails` (CIFAR-10 kept, MNIST harmful), on fewer images and steps.

Of each pair of factors: RIR_theta0, (i) and (ii) by the definition on the training rows; held-out accuracy of the primary head
that was trained along; and what attackers get on held-out harmful rows: the best of gradient descent, momentum and Adam over
seven rates, and the normal equations. On the Pareto front nobody else has both a higher primary accuracy and a lower best
attacker; another front has RIR in the attacker's place. A pair with which a seed broke (features or condition numbers left the
range of numbers) is on no front and in no verdict. The picture marks where less than 3 points are lost.

    python -m experiments.lambda_pareto --data-dir DIR [--seeds 3] [--out runs/lambda_pareto]

An interrupted run goes on when the same command is given again. Run time and result: docs/results.md.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import product as every_pair
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax import attacks, methods
from cimm_jax.attacks import Target
from cimm_jax.attacks.class_sweep import class_task
from cimm_jax.attacks.protocol import behind
from cimm_jax.closed_form.heads import Head
from cimm_jax.data.digits import load_digits_8x8
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.measures.extraction import Extraction
from cimm_jax.measures.ratios import immunization_ratio, relative_immunization_ratio
from cimm_jax.methods import Method
from cimm_jax.methods.stepping import advance, start
from cimm_jax.networks import functional
from cimm_jax.networks.features import DeepFeatures
from cimm_jax.networks.head import head_of
from cimm_jax.networks.tails import features_behind
from cimm_jax.networks.training import Trained, TrainingSettings, train_tail
from cimm_jax.numerics import losses
from cimm_jax.numerics.interval import Interval
from cimm_jax.runs.codec import encode
from cimm_jax.runs.network_subject import NetworkSubject, attacked_task
from cimm_jax.tasks import SplitPair, SplitTask, TaskPair, stack_pairs
from cimm_jax.views.numbers import format_number, interval_text, percent
from cimm_jax.views.render.picture import legend_below, png_bytes
from cimm_jax.views.render.terminal import print_table
from experiments.common import parser
from experiments.intervals import half_width, over_seeds, with_width
from experiments.probes import FOLLOWERS
from experiments.resumed import resumed
from experiments.table3_deepnets import CONFIGURATIONS, source_of
from experiments.table3_tails import ATTACKERS, RATES, TAILS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINEAR, RESNET = "linear", "resnet20"
SUBJECTS = (LINEAR, RESNET)
FACTORS = {LINEAR: (0.0, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0), RESNET: (0.0, 1.0, 10.0, 100.0)}
"""Of each lambda, times what balances it."""

TAIL = "tail_resnet20_mnist"
ROWS_A_DIGIT, HELDOUT_A_DIGIT = 120, 50
LINEAR_STEPS, ATTACK_STEPS, ATTACK_RATES = 300, 300, 7
MOST_LOST = 0.03
"""Of the primary accuracy; what loses less is marked."""


MOST_SHOWN = 0.12
"""What loses more is not in the picture, which would show nothing else."""


class Cell(NamedTuple):
    """What a pair of factors gives, over seeds.

    Attributes:
      primary_factor: of lambda_P.
      harmful_factor: of lambda_H.
      accuracy: of the primary head, held out.
      lost: of it, against training without penalties.
      rir: log10 of RIR_theta0.
      harmful: log10 of (i).
      primary: log10 of (ii).
      gradient: held-out accuracy of the best attacker who follows gradients.
      solved: that of the normal equations.
      hindered: how much accuracy the better of both loses, against training without penalties.
      broken: seeds whose features or condition numbers left the range of numbers; they do not count in the others.
    """

    primary_factor: float
    harmful_factor: float
    accuracy: Interval
    lost: Interval
    rir: Interval
    harmful: Interval
    primary: Interval
    gradient: Interval
    solved: Interval
    hindered: Interval
    broken: int

    @property
    def without(self) -> bool:
        """Whether there are no penalties."""
        return not (self.primary_factor or self.harmful_factor)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Makes what is not finished, tabulates, draws and says what follows; returns results.json."""
    settings = _settings(arguments)
    jax.config.update("jax_enable_x64", True)
    folder = output_folder(settings.out)
    found = {}
    for name in settings.subjects:
        records = _linear_records(settings, folder) if name == LINEAR else _resnet_records(settings, folder)
        found[name] = cells(records)
    results = {
        name: {
            "cells": encode(of),
            "front": {"attackers": _factors(front(of)), "rir": _factors(front(of, by_ratio))},
            "verdict": verdict(name, of, settings.seeds),
        }
        for name, of in found.items()
    }
    written = write_json(folder / "results.json", {"seeds": settings.seeds, "steps": settings.steps, **results})
    write_whole(folder / "lambda_pareto.png", _picture(found))
    for name, of in found.items():
        _print(name, of)
        print(f"\n{results[name]['verdict']}")
    print(f"Figures and picture: {folder}")
    return written


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, "runs/lambda_pareto")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    made.add_argument("--steps", type=int, default=60, help="of training resnet20's blocks")
    made.add_argument("--image-rows", type=int, default=1000, help="images of each part for resnet20")
    made.add_argument("--cache", type=Path, help="folder that keeps activations between runs")
    return made.parse_args(arguments)


def _linear_records(settings: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """One record a seed and pair of factors; the seeds that are missing are made in one program."""
    wanted = [{"seed": settings.seed + number} for number in range(settings.seeds)]
    made_by = {"steps": LINEAR_STEPS, "rows": ROWS_A_DIGIT, "attack_steps": ATTACK_STEPS, "factors": FACTORS[LINEAR]}
    grid = list(every_pair(FACTORS[LINEAR], repeat=2))
    tasks = [digits_apart(one["seed"]) for one in wanted]

    @cache  # all seeds are one program, which runs once, and not at all where every seed is finished
    def trained() -> tuple[jax.Array, jax.Array]:
        seeds = [one["seed"] for one in wanted]
        return trained_on_grid(methods.algorithm1(), tasks, seeds, grid, steps=LINEAR_STEPS)

    def one(seed: int) -> dict[str, Any]:
        number = seed - settings.seed
        thetas, omegas = (np.asarray(leaf[number]) for leaf in trained())
        return {"cells": _linear_figures(tasks[number], thetas, omegas, grid)}

    by_seed = resumed(folder / "linear.json", wanted, one, made_by=made_by, at_once=1)
    return [{"seed": record["seed"], **cell} for record in by_seed for cell in record["cells"]]


def digits_apart(seed: int) -> SplitPair:
    """Five digits that the seed draws and the other five as two tasks of five classes, targets centred one-hot, float64."""
    images = load_digits_8x8()
    order = np.random.default_rng(seed).permutation(10)
    parts = ((images.train_x, images.train_y, ROWS_A_DIGIT), (images.heldout_x, images.heldout_y, HELDOUT_A_DIGIT))

    def task(digits: np.ndarray) -> SplitTask:
        rows = []
        for x, y, count in parts:
            chosen = np.concatenate([np.flatnonzero(y == digit)[:count] for digit in digits])
            rows.append((x[chosen], np.repeat(np.arange(len(digits)), count)))
        return class_task(*rows, classes=len(digits), squared=True)

    primary, harmful = task(order[:5]), task(order[5:])
    return SplitPair(TaskPair(primary.train, harmful.train), TaskPair(primary.heldout, harmful.heldout))


def trained_on_grid(
    method: Method, tasks: Sequence[SplitPair], seeds: Sequence[int], grid: Sequence[tuple[float, float]], *, steps: int
) -> tuple[jax.Array, jax.Array]:
    """Extractors of shape (seeds, factors, d, d), and primary heads (seeds, factors, d, C), of one vmapped program.

    Args:
      method: with two terms, balanced.
      tasks: a pair of tasks a seed, of one shape.
      seeds: of the heads at first.
      grid: the factors of lambda_P and lambda_H.
      steps: full-batch ones.
    """
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    return _trained(method, keys, stack_pairs([task.train for task in tasks]), jnp.asarray(grid), jnp.asarray(steps))


@partial(jax.jit, static_argnums=0)
def _trained(
    method: Method, keys: jax.Array, pairs: TaskPair, factors: jax.Array, steps: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def one(key: jax.Array, pair: TaskPair, factor: jax.Array) -> tuple[jax.Array, jax.Array]:
        run = start(method, key, pair)
        state = run.state._replace(weights=run.state.weights * factor)
        run, _ = advance(method, run._replace(state=state), pair, steps=steps)
        return run.state.theta, run.state.omega

    return jax.vmap(jax.vmap(one, (None, None, 0)), (0, 0, None))(keys, pairs, factors)


def _linear_figures(
    tasks: SplitPair, thetas: np.ndarray, omegas: np.ndarray, grid: Sequence[tuple[float, float]]
) -> list[dict[str, Any]]:
    """Of one seed's extractors, a record a pair of factors."""
    usable = [number for number in range(len(grid)) if np.isfinite(thetas[number]).all() and thetas[number].any()]
    ratios = jax.vmap(relative_immunization_ratio, (0, None))(jnp.asarray(thetas[usable]), tasks.train)
    harmful, heldout = tasks.task("harmful"), tasks.heldout.primary
    accuracy = _attacked({str(number): behind(thetas[number], harmful) for number in usable})
    found = [{"primary_factor": p, "harmful_factor": h, "broken": True} for p, h in grid]
    for place, number in enumerate(usable):
        scores = np.asarray(heldout.x) @ thetas[number] @ omegas[number]
        found[number] |= {
            "broken": False,
            "accuracy": float(np.mean(scores.argmax(1) == np.asarray(heldout.y).argmax(1))),
            **_ratio_figures(jax.tree.map(lambda leaf, place=place: leaf[place], ratios)),
            **{name: float(of[place]) for name, of in accuracy.items()},
        }
    return found


def _ratio_figures(ratio: Any) -> dict[str, float]:
    return {
        "rir": float(ratio.rir),
        "harmful": float(ratio.harmful_ratio),
        "primary": float(ratio.primary_ratio),
        "rank_harmful": int(ratio.harmful.rank),
    }


def _attacked(targets: Mapping[str, Target]) -> dict[str, np.ndarray]:
    """Held-out accuracy of the best who follows gradients and of the normal equations, each of shape (targets,)."""
    operators = attacks.standard_operators(ATTACKERS, steps=ATTACK_STEPS, rates=ATTACK_RATES)
    swept = attacks.sweep_classes(operators, targets, keys=jax.random.split(jax.random.key(0), 1))
    at_end = {name: attacks.best(found.accuracy, largest=True).mean[:, -1] for name, found in swept.items()}
    gradient = np.max([at_end[name] for name in FOLLOWERS], axis=0)
    return {"gradient": gradient, "solved": at_end["normal equations"]}


def _resnet_records(settings: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    configuration, cut, _ = TAILS[TAIL]
    source = source_of(CONFIGURATIONS[configuration], settings.data_dir, settings.out, image_rows=settings.image_rows)
    subject = NetworkSubject(source, settings.cache)
    subject.cut_at(cut)
    made_by = {"data": encode(subject.network_data), "cut": cut, "steps": settings.steps, "attack_steps": ATTACK_STEPS}
    seeds = range(settings.seed, settings.seed + settings.seeds)
    wanted = [
        {"seed": seed, "primary_factor": p, "harmful_factor": h}
        for seed, p, h in every_pair(seeds, FACTORS[RESNET], FACTORS[RESNET])
    ]
    # The same for every pair of factors of a seed.
    balanced = cache(lambda seed: train_with(subject, methods.algorithm1(), steps=1, seed=seed).weights)
    run = partial(_resnet_figures, subject, settings.steps, balanced)
    return resumed(folder / "resnet20.json", wanted, run, made_by=made_by, at_once=1)


def _resnet_figures(
    subject: NetworkSubject,
    steps: int,
    balanced: Callable[[int], np.ndarray],
    *,
    seed: int,
    primary_factor: float,
    harmful_factor: float,
) -> dict[str, Any]:
    first, second = map(float, balanced(seed))
    method = methods.algorithm1(lambda_primary=primary_factor * first, lambda_harmful=harmful_factor * second)
    trained = train_with(subject, method, steps=steps, seed=seed)
    after = DeepFeatures(**features_behind(trained.parts, subject.activations, subject.cut))
    if any(not np.isfinite(of.train.x).all() or not of.train.x.any() for of in after):
        return {"broken": True}
    before, now = (jax.tree.map(jnp.asarray, features.pair()) for features in (subject.published, after))
    primary = after.primary.heldout
    assert primary is not None  # CIFAR-10 comes in two parts
    accuracy = _attacked({"network": Target(*attacked_task(after.harmful, losses.squared))})
    return {
        "broken": False,
        "accuracy": _accuracy(head_of(functional.merge(trained.parts)), primary.x, primary.labels),
        **_ratio_figures(immunization_ratio(Extraction(before, now))),
        **{name: float(of[0]) for name, of in accuracy.items()},
    }


def _accuracy(head: Head, x: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(head.logits(x).argmax(1) == labels))


def train_with(subject: NetworkSubject, method: Method, *, steps: int, seed: int) -> Trained:
    """The blocks behind the subject's cut, trained with the method's penalties."""
    return train_tail(
        functional.split(subject.network, subject.cut),
        subject.cut,
        *(subject.activations[task].train for task in ("primary", "harmful")),
        penalties=method.penalties or (),
        settings=TrainingSettings(steps=steps, learning_rate=RATES[10.0], seed=seed),
    )


def cells(records: Sequence[Mapping[str, Any]]) -> list[Cell]:
    """What each pair of factors gives, over seeds, in the order of the records."""
    without = {record["seed"]: record for record in records if not record["primary_factor"] + record["harmful_factor"]}

    def less(record: Mapping[str, Any], *kinds: str) -> float:
        """How much less accurate the best of some kinds is than without penalties, with the same seed."""
        best_without, best = (max(of[kind] for kind in kinds) for of in (without[record["seed"]], record))
        return best_without - best

    found = []
    for factors in dict.fromkeys((record["primary_factor"], record["harmful_factor"]) for record in records):
        mine = [record for record in records if (record["primary_factor"], record["harmful_factor"]) == factors]
        whole = [record for record in mine if not record["broken"] and 0 < record["rir"] < np.inf]
        if not whole:
            continue
        logs = {
            name: over_seeds(np.log10([record[name] for record in whole])) for name in ("rir", "harmful", "primary")
        }
        kept = {name: over_seeds([record[name] for record in whole]) for name in ("accuracy", "gradient", "solved")}
        lost = over_seeds([less(record, "accuracy") for record in whole])
        hindered = over_seeds([less(record, "gradient", "solved") for record in whole])
        found.append(Cell(*factors, lost=lost, hindered=hindered, broken=len(mine) - len(whole), **logs, **kept))
    return found


def by_attacker(cell: Cell) -> float:
    """What is to be small: the best attacker's accuracy, against training without penalties."""
    return -cell.hindered.estimate


def by_ratio(cell: Cell) -> float:
    """What is to be small: log RIR with its sign turned."""
    return -cell.rir.estimate


def front(of: Sequence[Cell], small: Callable[[Cell], float] = by_attacker) -> list[Cell]:
    """Those of whom no other has a primary accuracy at least as high and what is to be small at least as small, and one better.

    From the highest primary accuracy to the lowest; without those that broke with some seed.
    """
    found: list[Cell] = []
    for cell in sorted(
        (cell for cell in of if not cell.broken), key=lambda cell: (-cell.accuracy.estimate, small(cell))
    ):
        if not found or small(cell) < small(found[-1]):
            found.append(cell)
    return found


def _factors(of: Sequence[Cell]) -> list[tuple[float, float]]:
    return [(cell.primary_factor, cell.harmful_factor) for cell in of]


def verdict(name: str, of: Sequence[Cell], seeds: int) -> str:
    """One sentence that a reader could refute."""
    without = next(cell for cell in of if cell.without)
    whole = [cell for cell in of if not cell.broken]
    cheap = [cell for cell in whole if not cell.without and cell.lost.estimate < MOST_LOST]
    broken = f", {len(of) - len(whole)} break with some seed" if len(whole) < len(of) else ""
    begun, points = f"Verdict on {name} ({seeds} seeds): ", f"{100 * MOST_LOST:.0f} points of the primary accuracy"
    if not cheap:
        return f"{begun}no pair of lambdas loses less than {points}{broken}."
    largest, hardest = min(cheap, key=by_ratio), min(cheap, key=by_attacker)
    gradient, solved = (
        f"{percent(getattr(largest, kind).estimate)} ({percent(getattr(without, kind).estimate)} without penalties)"
        for kind in ("gradient", "solved")
    )
    return (
        f"{begun}{len(cheap)} of {len(of) - 1} pairs of lambdas lose less than {points} ({without.accuracy.estimate:.3f} "
        f"without penalties){broken}; the largest RIR among them is {_times(largest.rir)} ({_named(largest)}), which leaves "
        f"the best attacker who follows gradients {gradient} and the normal equations {solved}, and none of them takes more "
        f"than {_points(hardest.hindered)} points from the better of both ({_named(hardest)})."
    )


def _points(share: Interval) -> str:
    """Of a share, in hundredths."""
    return with_width(Interval(*(100 * value for value in share)), 1)


def _named(cell: Cell) -> str:
    return f"lambda_P x{cell.primary_factor:g}, lambda_H x{cell.harmful_factor:g}"


def _times(logarithm: Interval) -> str:
    """Of a common logarithm over seeds, the number and its interval."""
    estimate, low, high = (10.0**value for value in logarithm)
    return f"{format_number(estimate)} ({interval_text(low, high)})"


def _print(name: str, of: Sequence[Cell]) -> None:
    fronts = {"A": front(of), "R": front(of, by_ratio)}
    columns = ["lambda_P", "lambda_H", "primary accuracy", "points lost", "RIR", "(i)", "(ii)"]
    columns += ["gradient attacker", "normal equations", "points the better loses", "on the front"]
    rows = [
        [
            f"x{cell.primary_factor:g}",
            f"x{cell.harmful_factor:g}",
            with_width(cell.accuracy, 3),
            _points(cell.lost),
            _times(cell.rir),
            format_number(10.0**cell.harmful.estimate),
            format_number(10.0**cell.primary.estimate),
            with_width(cell.gradient, 3),
            with_width(cell.solved, 3),
            _points(cell.hindered),
            " ".join(letter for letter, members in fronts.items() if cell in members)
            + (f" ({cell.broken} broken)" if cell.broken else ""),
        ]
        for cell in of
    ]
    print_table(columns, rows, title=f"{name}: mean and 95 % interval over seeds; fronts A: attackers, R: RIR")


def _picture(found: Mapping[str, Sequence[Cell]]) -> bytes:
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(11.0, 4.2 * len(found) + 0.6), layout="constrained")
    grid = drawing.subplots(len(found), 2, squeeze=False)
    levels = sorted({cell.harmful_factor for of in found.values() for cell in of})
    for row, (name, of) in zip(grid, found.items(), strict=True):
        shown = [cell for cell in of if not cell.broken and cell.lost.estimate <= MOST_SHOWN]
        _panel(row[0], shown, levels, by_ratio, lambda cell: cell.rir)
        row[0].set(title=f"{name}: condition numbers", ylabel="log10 RIR")
        _panel(row[1], shown, levels, by_attacker, lambda cell: cell.hindered)
        row[1].set(title=f"{name}: attackers", ylabel="accuracy that the best attacker loses")
    legend_below(drawing, columns=3)
    return png_bytes(drawing)


def _panel(
    axes: "Axes",
    of: Sequence[Cell],
    levels: Sequence[float],
    small: Callable[[Cell], float],
    height: Callable[[Cell], Interval],
) -> None:
    """A point a pair of factors: colour by lambda_H, size by lambda_P; the front, and where little is lost."""
    sizes = {factor: 18 + 14 * number for number, factor in enumerate(sorted({cell.primary_factor for cell in of}))}
    for number, level in enumerate(levels):
        mine = [cell for cell in of if cell.harmful_factor == level]
        if not mine:
            continue
        lost, heights = [100 * cell.lost.estimate for cell in mine], [height(cell) for cell in mine]
        colour = f"C{number}"
        axes.scatter(
            lost,
            [one.estimate for one in heights],
            s=[sizes[cell.primary_factor] for cell in mine],
            color=colour,
            label=f"lambda_H x{level:g} (larger: lambda_P)",
            zorder=3,
        )
        axes.errorbar(
            lost,
            [one.estimate for one in heights],
            xerr=[100 * half_width(cell.lost) for cell in mine],
            yerr=[half_width(one) for one in heights],
            fmt="none",
            color=colour,
            alpha=0.3,
            linewidth=0.8,
        )
    best = front(of, small)
    axes.step(
        [100 * cell.lost.estimate for cell in best],
        [height(cell).estimate for cell in best],
        where="post",
        color="black",
        linewidth=1,
        label="Pareto front",
    )
    low, high = np.clip(axes.get_xlim(), -100 * MOST_SHOWN / 2, 100 * MOST_SHOWN)
    axes.axvspan(min(low, 0), 100 * MOST_LOST, color="0.85", zorder=0, label="less than 3 points lost")
    axes.set(xlim=(low, high), xlabel="points of primary accuracy lost")
    axes.grid(alpha=0.25)


if __name__ == "__main__":
    main()
