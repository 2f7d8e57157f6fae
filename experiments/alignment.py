"""Immunization and how the singular vectors of the two tasks align: the claim of section 3.1 of the paper.

The paper says that "the strength of the immunization depends on the relative angle between the singular vectors of K_P and
K_H": pairs whose leading directions align should be harder to immunize. Here, over the 90 ordered pairs of MNIST digits (the
task of a digit is its images) and over House Prices both ways round:

* alignment: sum_i |u_i^T v_i| over the top k right singular vectors, which should go with a SMALLER log RIR,
* limit: log of the largest RIR of any linear extractor (`cimm_jax.closed_form.limits`), which should go with a LARGER one,

against the log RIR that each method achieves, on its training rows, both tasks as seen in the primary's range. Spearman's rho
over the 90 pairs with 95 % intervals from a bootstrap over DIGITS (a pair is drawn as often as the product of its digits),
since pairs that share a digit are not independent. House is drawn in the picture and listed, not counted in rho.

    python -m experiments.alignment --data-dir DIR_WITH_MNIST [--house-dir DIR] [--out runs/alignment]

An interrupted run continues with the next method when the same command is given again. Run time and result: docs/results.md.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax import methods
from cimm_jax.closed_form.limits import pair_limit
from cimm_jax.data import DigitKind, load_digit_images, load_pair, sweep_splits
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.measures.diagnosis import alignment
from cimm_jax.progress import phase
from cimm_jax.resuming import MadeBy
from cimm_jax.tasks import SplitPair, TaskPair, stack_pairs
from cimm_jax.views.render.picture import legend_below, png_bytes
from cimm_jax.views.render.terminal import print_table

RESAMPLES = 2000
HOUSE = ("house", "house reversed")

# Minibatch Hessians, as in the released code: at 784 features those of the data cost a hundred times more a step.
METHODS: dict[str, Callable[[], methods.Method]] = {
    "algorithm1": lambda: methods.algorithm1(hessian=methods.HessianFrom.BATCH),
    "ill_only": lambda: methods.ill_only(hessian=methods.HessianFrom.BATCH),
    "opt_kappa": lambda: methods.opt_kappa(hessian=methods.HessianFrom.BATCH),
    "imma": methods.imma,
    "pencil": methods.pencil,
}


def main() -> None:
    """Runs the methods that are not finished yet, then tabulates and draws."""
    settings = _settings()
    jax.config.update("jax_enable_x64", True)
    folder = output_folder(settings.out)
    images = load_digit_images("mnist", data_dir=settings.data_dir)
    pairs, split = sweep_splits(images, DigitKind.SINGLE, rows=settings.rows, heldout_rows=settings.rows)
    groups = {"mnist": split}
    if settings.house_dir is not None:
        groups["house"] = _both_ways(load_pair("house_prices", data_dir=settings.house_dir))
    known = {name: _geometry(group.train, settings.top_k) for name, group in groups.items()}
    achieved: dict[str, dict[str, np.ndarray]] = {name: {} for name in groups}
    for group, data in groups.items():
        for name in settings.methods:
            achieved[group][name] = _log_rir(folder / f"{group}-{name}.json", name, data, settings)
    digits = np.asarray(pairs)
    table = _correlations(known["mnist"], achieved["mnist"], digits, settings.seed)
    results = {
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in vars(settings).items()},
        "pairs": pairs,
        "geometry": known,
        "log_rir": achieved,
        "spearman": table,
    }
    write_json(folder / "results.json", results)
    picture = write_whole(folder / "alignment.png", _picture(known, achieved))
    _print(table, known, achieved)
    print(f"\nPicture: {picture}")


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with MNIST")
    parser.add_argument("--house-dir", type=Path, help="folder with House Prices; left out if not given")
    parser.add_argument("--out", type=Path, default=Path("runs/alignment"))
    parser.add_argument("--rows", type=int, default=300, help="training images per digit")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--top-k", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    return parser.parse_args()


def _both_ways(split: SplitPair) -> SplitPair:
    """House Prices as it is and with the tasks exchanged, stacked."""
    return SplitPair(*(stack_pairs([pair, TaskPair(pair.harmful, pair.primary)]) for pair in split))


def _geometry(pairs: TaskPair, top_k: int) -> dict[str, np.ndarray]:
    """Alignment and limit of every stacked pair."""
    count = len(pairs.primary.x)
    limits = jax.jit(lambda pairs: jax.lax.map(pair_limit, pairs))(jax.tree.map(jnp.asarray, pairs))
    scores = [
        alignment(jax.tree.map(lambda leaf, index=index: leaf[index], pairs), top_k=top_k).score
        for index in range(count)
    ]
    return {"alignment": np.asarray(scores), "limit": np.asarray(limits.log_rir)}


def _log_rir(path: Path, name: str, split: SplitPair, settings: argparse.Namespace) -> np.ndarray:
    """What a method achieves on every pair, shape (pairs,); from the file if the same settings made it."""
    saved = MadeBy(path, {key: getattr(settings, key) for key in ("rows", "steps", "batch_size", "seed")})
    if (former := saved.read()) is not None:
        return np.asarray(former["log_rir"], float)
    method = METHODS[name]()
    start = time.perf_counter()
    with phase(f"{path.stem}: {len(split.train.primary.x)} pairs"):
        measured = methods.sweep(
            {name: method},
            jax.tree.map(jnp.asarray, split),
            keys=jax.random.split(jax.random.key(settings.seed), 1),
            steps=1 if method.closed_form else settings.steps,
            batch_size=None if method.closed_form else settings.batch_size,
        )[name]
    if bool(np.any(measured.share.exceeded)):
        raise InputError(f"{name}: is beyond the limit on some pair; this is a bug, please report it")
    log_rir = np.asarray(measured.share.log_rir)[:, 0]
    seconds = time.perf_counter() - start
    print(f"{path.stem}: {seconds:.0f} s, mean log RIR {log_rir.mean():.2f}")
    saved.write({"log_rir": log_rir, "seconds": seconds})
    return log_rir


def _correlations(known: dict, achieved: dict, digits: np.ndarray, seed: int) -> list[dict[str, Any]]:
    """Spearman's rho of alignment and of limit with each method's log RIR, and whether the claim holds."""
    draws = np.random.default_rng(seed).integers(0, 10, (RESAMPLES, 10))
    counts = np.stack([(draws == digit).sum(1) for digit in range(10)], 1)
    weights = counts[:, digits[:, 0]] * counts[:, digits[:, 1]]
    rows = []
    for quantity, expected in (("alignment", -1), ("limit", 1)):
        for name, values in achieved.items():
            rho = _spearman(known[quantity], values)
            resampled = [_spearman(np.repeat(known[quantity], weight), np.repeat(values, weight)) for weight in weights]
            low, high = np.nanpercentile(resampled, [2.5, 97.5])
            holds = (
                "yes" if low * expected > 0 and high * expected > 0 else "opposite" if low * high > 0 else "undecided"
            )
            rows.append(
                {"quantity": quantity, "method": name, "rho": rho, "low": low, "high": high, "as_claimed": holds}
            )
    return rows


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(np.asarray(spearmanr(a, b))[0])


def _picture(known: dict, achieved: dict) -> bytes:
    """One row for alignment and one for the limit, one column per method; House as crosses."""
    from matplotlib.figure import Figure

    names = list(achieved["mnist"])
    figure = Figure(figsize=(3.1 * len(names), 6), layout="constrained")
    grid = figure.subplots(2, len(names), squeeze=False)
    for row, quantity in zip(grid, ("alignment", "limit"), strict=True):
        for axes, name in zip(row, names, strict=True):
            for group, marker, colour in (("mnist", ".", "#33508a"), ("house", "x", "#b23a48")):
                if group in known:
                    axes.plot(known[group][quantity], achieved[group][name], marker, color=colour, label=group)
            axes.set(xlabel="alignment" if quantity == "alignment" else "limit: log of the largest RIR")
            axes.axhline(0, color="#777777", linewidth=0.8)
            axes.grid(alpha=0.25)
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name)
    for row in grid:
        row[0].set_ylabel("log RIR achieved")
    legend_below(figure, columns=2)
    return png_bytes(figure)


def _print(table: list[dict[str, Any]], known: dict, achieved: dict) -> None:
    rows = [
        [r["quantity"], r["method"], r["rho"], f"{r['low']:.2f} to {r['high']:.2f}", r["as_claimed"]] for r in table
    ]
    print_table(["quantity", "method", "Spearman's rho", "95 % interval", "as claimed"], rows, title="90 MNIST pairs")
    print(
        "As claimed: alignment with a negative rho, the limit with a positive one, the interval on that side of zero."
    )
    mnist = known["mnist"]
    print(f"alignment with the limit itself: rho {_spearman(mnist['alignment'], mnist['limit']):.2f}")
    if "house" in known:
        columns = ["pair", "alignment", "limit", *achieved["house"]]
        figures = [*known["house"].values(), *achieved["house"].values()]
        rows = [[name, *(float(values[i]) for values in figures)] for i, name in enumerate(HOUSE)]
        print_table(columns, rows, title="House Prices: log RIR achieved, in the primary's range")
    holds = [r["method"] for r in table if r["quantity"] == "alignment" and r["as_claimed"] == "yes"]
    print(f"The claim holds for {', '.join(holds)}." if holds else "The claim holds for no method.")


if __name__ == "__main__":
    main()
