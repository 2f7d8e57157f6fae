"""How fast gradient descent fits a probe on immunized features, measured a step at a time against what theory promises.

    python -m benchmarks.convergence [--data digits|house_prices|mnist] [--data-dir DIR] [--out DIR]

For every method and both tasks: constant steps 1/L and 2/(L + mu), whose error ||w_t - w*|| shrinks at least by the factors
1 - sigma_min/sigma_max and (kappa - 1)/(kappa + 1) a step, and exact line search, whose excess loss shrinks at least by
((kappa - 1)/(kappa + 1))^2. All are given as 1 - rate. The columns:

* asymptote: of the error, a billion kappa constant steps later, which are taken by powers; it is the bound as soon as any
  label energy lies on the slowest direction;
* worst start: w_0 - w* = v_1/sigma_1 + v_k/sigma_k, the step furthest from the bound; in the eigenbasis, and on the features
  themselves, where the largest kappa leave nothing of it in float64;
* labels: the last of the steps made from a zero probe towards the task's targets;
* norm ratio: Eq. 16, ||w_t - w*||^2 / ||w_0 - w*||^2 under exact line search after all steps. It is at most (1 - 1/kappa)^t:
  a step alpha = g^T g / g^T H g removes 2 alpha g^T e - alpha^2 g^T g >= alpha g^T e >= (mu/L) ||e||^2, as alpha g^T g <=
  g^T e by Cauchy and Schwarz. The squared rate of the loss does not bound a step of it: e = (kappa^-1/2, 1) in the
  eigenbasis of curvatures (kappa, 1) keeps about 1 - 3/kappa of ||e||^2, more than 1 - 4/kappa.

"answer right": no step fell short of its bound, asymptote and worst start attain it, the loss was halved within the bound's
steps, and plain descent on the features and `cimm_jax.numerics.convergence` leave the same loss. The exit status is 1 if not.
kappa is by Eq. 1 (`PseudoInverse`, a star where rounding decided it); directions beyond the rank carry no error.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._rates import (
    INVERSE_SMOOTHNESS,
    LINE_SEARCH,
    RULES,
    Course,
    Problem,
    Rule,
    asymptote,
    descend,
    halved_after,
    plain_descent,
)
from benchmarks._rates_report import Row, picture, print_optimizers, print_rates, sentences
from cimm_jax import attacks
from cimm_jax.attacks import UNDEFENDED
from cimm_jax.errors import InputError, check_count
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.methods import BY_NAME, PRESETS
from cimm_jax.numerics.convergence import ProbeProblem, line_search_curve
from cimm_jax.numerics.decompositions import svd
from cimm_jax.numerics.spectra import PseudoInverse, feature_condition_number, product_amplification
from cimm_jax.progress import progress_bar
from cimm_jax.runs.codec import encode
from cimm_jax.runs.immunizing import make_map
from cimm_jax.runs.manifest import make_manifest
from cimm_jax.runs.source import DataSource
from cimm_jax.runs.subject import DataSubject
from cimm_jax.tasks import SplitPair, Task

ATTAINED = 1e-6
"""What attains its bound may differ by this share of 1 - rate; on the features themselves, by rounding if that is more."""

MEASURABLE = 1e-2
"""If rounding may be more than this share of 1 - rate, float64 features cannot show the rate."""

AGREES = 1e-6
"""Shares of excess loss left that are to be the same may differ by this much."""

PLAIN_STEPS, WORST_STEPS = 100, 10
"""Steps made on the features themselves."""

IMMUNIZATION_STEPS, SEED = 300, 0
"""Of the methods: what `cimm attack` does unless it is told otherwise."""

OPTIMIZERS = ("line_search", "momentum", "adam")
EPS = float(np.finfo(float).eps)


class Subject(NamedTuple):
    """An extractor's features of one task.

    Attributes:
      extractor: name.
      task: "harmful" or "primary".
      features: shape (N, d).
      targets: shape (N, C).
      kappa: sigma_max / sigma_min.
      rank: how many singular values count.
      floored: whether rounding decided the rank.
      vectors: right singular vectors that count, shape (d, rank).
      problem: arrays of shape (rank,).
    """

    extractor: str
    task: str
    features: np.ndarray
    targets: np.ndarray
    kappa: float
    rank: int
    floored: bool
    vectors: np.ndarray
    problem: Problem


def main() -> int:
    """Measures, prints, writes; returns the exit status."""
    settings = _settings()
    jax.config.update("jax_enable_x64", True)
    check_count(settings.steps, "--steps")
    folder = None if settings.out is None else output_folder(settings.out)
    source = DataSource(settings.data, settings.data_dir, settings.primary, settings.harmful)
    data = DataSubject(source)
    pair, thetas = data.split, extractors(data)
    rows, optimizers = [], {}
    for task in ("harmful", "primary"):
        subjects = [make_subject(name, task, theta, getattr(pair.train, task)) for name, theta in thetas.items()]
        rows += [measure(rule, subject, settings.steps) for subject in subjects for rule in RULES]
        optimizers[task] = steps_of_optimizers(task, pair, thetas, settings.steps)
    for rule in RULES:
        print_rates(rule.name, rows, settings.steps)
    print_optimizers(optimizers, settings.steps)
    words = sentences(rows, settings.steps)
    print("\n" + "\n\n".join(words))
    if folder is not None:
        made = {**vars(source), "immunization_steps": IMMUNIZATION_STEPS, "seed": SEED, "steps": settings.steps}
        manifest = make_manifest("benchmarks.convergence", made, data_sha256=data.checksums())
        facts = {"manifest": encode(manifest), "rates": [row._asdict() for row in rows]}
        results = {**facts, "optimizers": optimizers, "words": words}
        print(f"\nPicture: {write_whole(folder / 'convergence_rates.png', picture(rows, settings.data))}")
        print(f"Figures: {write_json(folder / 'results.json', results)}")
    wrong = [row for row in rows if row.wrong]
    for row in wrong:
        print(f"WRONG: {row.extractor}, {row.task}, {row.rule}: {'; '.join(row.wrong)}")
    return int(bool(wrong))


def extractors(data: DataSubject) -> dict[str, jax.Array]:
    """Every method's, the undefended identity first."""
    methods, thetas = {**BY_NAME, **PRESETS}, {UNDEFENDED: jnp.eye(data.features)}
    with progress_bar("immunizing", len(methods)) as progress:
        for made, (name, method) in enumerate(methods.items()):
            defence, _ = make_map(
                data,
                method(),
                name=name,
                seed=SEED,
                steps=IMMUNIZATION_STEPS,
                with_history=False,
                with_progress=False,
            )
            thetas[name] = jnp.asarray(defence.theta)
            progress(made + 1)
    return thetas


def make_subject(extractor: str, task: str, theta: jax.Array, data: Task) -> Subject:
    """The problem of a probe on x theta; the condition number's policy says which directions count."""
    features = jnp.matmul(data.x, theta, precision=jax.lax.Precision.HIGHEST)
    amplification = product_amplification(data.x, theta, features)
    spectrum = feature_condition_number(features, PseudoInverse(), amplification=amplification)
    u, sigma, vt = map(np.asarray, svd(features))
    rank, targets = int(spectrum.rank), np.asarray(data.y).reshape(len(data.y), -1)
    problem = Problem(sigma[:rank] ** 2, ((u[:, :rank].T @ targets) ** 2).sum(1))
    facts = (float(spectrum.kappa), rank, bool(spectrum.floored))
    return Subject(extractor, task, np.asarray(features), targets, *facts, vt[:rank].T, problem)


def measure(rule: Rule, subject: Subject, steps: int) -> Row:
    """One rule on one subject; `wrong` lists the checks that failed."""
    course, bound = descend(rule, subject.problem, steps), rule.bound(subject.kappa)
    made = course.progress(rule.measures)
    row = Row(
        subject.extractor,
        subject.task,
        rule.name,
        kappa=subject.kappa,
        rank=subject.rank,
        floored=subject.floored,
        slowest_energy=float(subject.problem.energy[-1] / subject.problem.energy.sum()),
        bound=bound,
        labels=float(made[-1]),
        labels_steps=len(made),
        halved_at_most=rule.halved_at_most(subject.kappa),
    )
    row = _of_constant(row, rule, subject) if rule.length else _of_line_search(row, subject, course, steps)
    wrong = list(row.wrong)
    if made.min() < bound * (1 - _rounding(subject.kappa)):
        wrong.append(f"a step made {made.min():.9e}, less than the bound {bound:.9e}")
    if abs(row.attained / bound - 1) > ATTAINED:
        wrong.append(f"what attains the bound {bound:.9e} made {row.attained:.9e}")
    if row.halved_at_most < min(row.halved_after, steps):
        wrong.append(f"half the loss took {row.halved_after:g} steps, promised {row.halved_at_most:g}")
    difference = _plain_difference(rule, subject, course)
    if not difference <= AGREES:
        wrong.append(f"plain descent on the features leaves a share of the loss that differs by {difference:.1e}")
    return row._replace(wrong=tuple(wrong))


def _of_constant(row: Row, rule: Rule, subject: Subject) -> Row:
    problem = subject.problem
    return row._replace(attained=asymptote(rule, problem), halved_after=halved_after(rule, problem))


def _of_line_search(row: Row, subject: Subject, course: Course, steps: int) -> Row:
    worst = descend(LINE_SEARCH, subject.problem.worst_start, steps).progress("loss")
    halved = np.flatnonzero(course.loss_left <= 0.5)
    limit, wrong = INVERSE_SMOOTHNESS.bound(subject.kappa), []
    norm_lost = course.progress("error") * (2 - course.progress("error"))
    if norm_lost.min() < limit * (1 - _rounding(subject.kappa) - 16 * EPS * subject.kappa):
        wrong.append(f"a step removed {norm_lost.min():.9e} of Eq. 16's norm, less than {limit:.9e}")
    curve = np.asarray(line_search_curve(ProbeProblem(*map(jnp.asarray, subject.problem)), steps))
    if not (difference := np.abs(curve - course.loss_left).max()) <= AGREES:
        wrong.append(f"cimm_jax.numerics.convergence leaves a share of the loss that differs by {difference:.1e}")
    # F e of an error that is ||e|| = 1/mu long is off by eps sqrt(kappa); some steps of progress 4 / kappa stand against it.
    on_features, rounding = _worst_on_features(subject), EPS * subject.kappa**1.5 / (2 * WORST_STEPS)
    if rounding > MEASURABLE:
        on_features = float("nan")
    elif abs(on_features / row.bound - 1) > max(ATTAINED, rounding):
        wrong.append(f"the worst start on the features made {on_features:.9e}, the bound is {row.bound:.9e}")
    return row._replace(
        attained=float(worst[np.abs(worst - row.bound).argmax()]),
        attained_on_features=on_features,
        halved_after=float(halved[0]) if len(halved) else float("inf"),
        norm_ratio=float(course.error_left[-1]),
        norm_ratio_at_most=float(np.exp(steps * np.log1p(-limit))) if limit < 1 else 0.0,
        wrong=tuple(wrong),
    )


def _worst_on_features(subject: Subject) -> float:
    """Progress of the loss a step from the worst start, by plain descent on the features: the geometric mean of some steps."""
    start = subject.vectors[:, :1] / subject.problem.largest + subject.vectors[:, -1:] / subject.problem.smallest
    losses = plain_descent(subject.features, np.zeros((len(subject.features), 1)), start, WORST_STEPS, None)
    steps = int((losses > losses[0] * 1e-20).sum()) - 1
    return float(-np.expm1(np.log(losses[steps] / losses[0]) / steps)) if steps else 1.0


def _plain_difference(rule: Rule, subject: Subject, course: Course) -> float:
    """The largest difference in the share of excess loss left between the eigenbasis and the features themselves."""
    steps = min(PLAIN_STEPS, len(course.loss_left) - 1)
    start = np.zeros((subject.features.shape[1], subject.targets.shape[1]))
    length = rule.length(subject.problem) if rule.length else None
    losses = plain_descent(subject.features, subject.targets, start, steps, length)
    total = subject.problem.energy.sum()
    left = (losses - (losses[0] - total)) / total
    return float(np.abs(left - course.loss_left[: steps + 1]).max())


def _rounding(kappa: float) -> float:
    """Relative rounding of 1 - rate: that of sigma_min grows with the condition number of the features."""
    return 1e-9 + 1e3 * EPS * kappa**0.5


def steps_of_optimizers(task: str, pair: SplitPair, thetas: dict[str, jax.Array], steps: int) -> dict[str, Any]:
    """By extractor and optimizer, at its best of a sweep of rates: steps to 50, 80 and 95 % of the best undefended attacker."""
    operators = attacks.standard_operators(OPTIMIZERS, steps=steps)
    targets = {name: attacks.behind(theta, pair.task(task)) for name, theta in thetas.items()}
    with progress_bar(f"optimizers, {task}", len(operators)) as progress:
        swept = attacks.sweep(operators, targets, keys=jax.random.split(jax.random.key(0), 1), progress=progress)
    found = attacks.outcomes(swept, list(thetas), attacks.log_spaced_steps(steps))
    return {name: {optimizer: outcome.steps for optimizer, outcome in by.items()} for name, by in found.items()}


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits (embedded), mnist or house_prices")
    parser.add_argument(
        "--data-dir", type=Path, help="folder with the data set's files; without it they are downloaded"
    )
    parser.add_argument("--primary", help="primary digit task; 0v1 if left out")
    parser.add_argument("--harmful", help="harmful digit task; 2v3 if left out")
    parser.add_argument("--steps", type=int, default=2000, help="steps of each descent")
    parser.add_argument("--out", type=Path, help="folder for results.json and convergence_rates.png")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"benchmarks.convergence: {error}")
