"""Table 3 of the paper as it was made: the last blocks of a pretrained network are trained, by every method of the paper.

The published figures (in `table3_deepnets`) need ImageNet, Cars and Country211, which were not at hand. Here: ResNet20 on
CIFAR-10, harmful MNIST in colour, 10,000 training images each. The last two of nine blocks are trained behind the cached
frozen trunk, stored statistics of batch normalisations kept, with SGD (Nesterov momentum 0.9, warm-up, cosine) on batches of
64. Lambdas are balanced: a penalty's first gradient is `strength` times as long as the primary loss's. "plain" trains on the
primary task alone, so that what a method did can be told from what training did.

Each row with (i), (ii) and RIR_theta0 by the definition on all training rows and in 20 groups of 100 (Eq. 17), RIR by the
released rule; accuracy on held-out primary images; and what attackers get on held-out harmful images: the best of gradient
descent, momentum and Adam over 7 learning rates and 600 full-batch steps, and the normal equations; and the best of the same
three who train a new probe of the primary classes, which should stay as easy as it was. Below the table, what an attacker gets
who takes the frozen trunk and leaves the trained blocks out.

    python -m experiments.table3_tails --config tail_resnet20_mnist --data-dir DIR [--out runs/table3]
    cimm reproduce table3 --config tail_resnet20_mnist --data-dir DIR

A run that is finished is not made again. Algorithm 1 reaches RIR 6.8 to 1,350 at strength 1 and 198 to 24,500 at 10, and
keeps the primary accuracy (0.916 before, 0.914 to 0.922 after), but the best attacker still gets 0.794 to 0.850 (undefended
0.852). IMMA's RIR is 0.09 and 0.26 at strength 10, and every attacker on its features guesses. The frozen activations before
the trained blocks give 0.899.

tail_vit_mnist trains the last block of a small transformer, after training the transformer (`pretrain_vit`) into OUT/vit
unless --weights names one. Algorithm 1 reaches RIR 4.5 to 9.2, but makes the harmful task better conditioned too, and the
best attacker gets 0.637 to 0.639 (undefended 0.623).

tail_resnet18_cars and tail_vit_b16_cars, and the two with country211, are the paper's own, by its released settings, for
whoever has the images (`table3_deepnets` says where): ResNet18's last two blocks or the transformer's last one, at a learning
rate of 1e-5 or so. Beside the balanced rows, "algorithm1, released" has the released lambdas. They were not run on these
images here, only on generated ones.

All rows: docs/results.md.
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax import attacks, methods
from cimm_jax.attacks import UNDEFENDED, Target
from cimm_jax.closed_form.heads import Head
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder, write_json
from cimm_jax.measures.extraction import Extraction
from cimm_jax.measures.groups import groups_by_policy
from cimm_jax.networks import functional
from cimm_jax.networks.features import DeepFeatures, FeatureSet
from cimm_jax.networks.head import head_of
from cimm_jax.networks.tails import features_behind
from cimm_jax.networks.training import TrainingSettings, train_tail
from cimm_jax.numerics import losses
from cimm_jax.numerics.penalty import Penalty
from cimm_jax.runs.codec import encode
from cimm_jax.runs.network_subject import NetworkSubject, attacked_task
from cimm_jax.views.render.terminal import print_table
from experiments.common import PUBLISHED, parser
from experiments.measure import mean_and_spread, ratio_records
from experiments.probes import FOLLOWERS, best_follower, probe_records
from experiments.resumed import resumed
from experiments.table3_deepnets import CONFIGURATIONS, add_network_settings, check_same_inputs, subject_of

PLAIN = "plain"
RELEASED = "algorithm1, released"
"""Algorithm 1 with the lambdas of the released settings."""

ATTACKERS = (*FOLLOWERS, "normal equations")


class Released(NamedTuple):
    """How the paper's released code trains blocks.

    Attributes:
      lambda_primary: of Algorithm 1.
      lambda_harmful: the same.
      learning_rate: of SGD with Nesterov momentum 0.9.
      batch_rows: rows of each task in a step.
      epochs: through the longer data set.
    """

    lambda_primary: float
    lambda_harmful: float
    learning_rate: float = 1e-5
    batch_rows: int = 64
    epochs: int = 2


class Tail(NamedTuple):
    """The blocks that are trained.

    Attributes:
      configuration: of `table3_deepnets`.
      cut: where its network is cut.
      released: the released settings; None where they have none.
    """

    configuration: str
    cut: str
    released: Released | None = None


TAILS = {
    "tail_resnet20_mnist": Tail("resnet20_mnist", "layer3.1"),
    "tail_resnet56_mnist": Tail("resnet56_mnist", "layer3.7"),
    "tail_vit_mnist": Tail("vit_mnist", "block5"),
    "tail_resnet18_cars": Tail("resnet18_cars", "layer4.0", Released(5e-5, 2e6)),
    "tail_resnet18_country211": Tail("resnet18_country211", "layer4.0", Released(1e-4, 2e6)),
    "tail_vit_b16_cars": Tail("vit_b16_cars", "block11", Released(3e-6, 3e8, batch_rows=32)),
    "tail_vit_b16_country211": Tail("vit_b16_country211", "block11", Released(1e-6, 1e8, 5e-6, batch_rows=32)),
}

EPOCHS, BATCH_ROWS = 2, 64
"""Where there are no released settings."""

RATES = {1.0: 3e-2, 10.0: 1e-2}
"""Learning rates by strength. On 2,000 images, strength 1 and four epochs, Algorithm 1 kept accuracy within 3 points at 3e-2;
at 1e-1 every feature became zero."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Makes the rows that are not finished, writes them to runs.json, prints the table; returns results.json."""
    settings = _settings(arguments)
    jax.config.update("jax_enable_x64", True)
    name, cut, _ = TAILS[settings.config]
    folder = output_folder(settings.out / settings.config)
    subject = subject_of(CONFIGURATIONS[name], settings)
    for task, images in subject.images.items():
        if images.heldout is None:
            raise InputError(f"{task}: has no held-out images to judge probes on; give images in two parts")
    check_same_inputs(folder, subject.network_data)  # or rows that are finished would be written over
    subject.cut_at(cut)
    made_by = {key: getattr(settings, key) for key in ("epochs", "batch_size", "attack_steps", "rates")}
    rows = resumed(
        folder / "runs.json",
        _wanted(settings),
        partial(_row, subject, settings),
        made_by={**made_by, "attackers": ATTACKERS, "data": encode(subject.network_data)},
        at_once=1,
    )
    trunk = _trunk_accuracy(subject.activations["harmful"])
    results = {
        "config": {"name": settings.config, "base": name, "cut": cut},
        "attack_steps": settings.attack_steps,
        "trunk_accuracy": trunk,
        "rows": rows,
    }
    written = write_json(folder / "results.json", results)
    _print(settings, rows)
    print(
        f"An attacker who takes the frozen activations before the trained blocks, averaged over the image, gets {trunk:.3f}."
    )
    return written


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, "runs/table3")
    made.add_argument("--config", choices=tuple(TAILS), required=True)
    made.add_argument("--methods", nargs="+", choices=(PLAIN, *PUBLISHED), default=(PLAIN, *PUBLISHED))
    made.add_argument("--strengths", nargs="+", type=float, choices=tuple(RATES), default=tuple(RATES))
    made.add_argument("--seeds", type=int, default=1)
    made.add_argument("--epochs", type=int, help="2 if left out")
    made.add_argument("--batch-size", type=int, help="64 if left out, or as in the released settings")
    made.add_argument("--attack-steps", type=int, default=600)
    made.add_argument("--rates", type=int, default=7, help="learning rates of each attacker that has one")
    add_network_settings(made)
    settings = made.parse_args(arguments)
    released = TAILS[settings.config].released
    settings.epochs = settings.epochs or (EPOCHS if released is None else released.epochs)
    settings.batch_size = settings.batch_size or (BATCH_ROWS if released is None else released.batch_rows)
    return settings


def _wanted(settings: argparse.Namespace) -> list[dict[str, Any]]:
    """By strength, then by method; training on the primary task alone and no training are there once."""
    seeds = range(settings.seed, settings.seed + settings.seeds)
    chosen = [(method, strength) for strength in settings.strengths for method in settings.methods if method != PLAIN]
    if PLAIN in settings.methods:
        chosen.insert(0, (PLAIN, 1.0))
    if TAILS[settings.config].released is not None and "algorithm1" in settings.methods:
        chosen.append((RELEASED, 1.0))
    trained = [{"method": method, "strength": strength, "seed": seed} for method, strength in chosen for seed in seeds]
    return [{"method": UNDEFENDED, "strength": 0.0, "seed": settings.seed}, *trained]


def _row(
    subject: NetworkSubject, settings: argparse.Namespace, *, method: str, strength: float, seed: int
) -> Mapping[str, Any]:
    if method == UNDEFENDED:
        return _measured(subject, settings, subject.published, subject.head, seed)
    released = TAILS[settings.config].released
    trained = train_tail(
        functional.split(subject.network, subject.cut),
        subject.cut,
        *(subject.activations[task].train for task in ("primary", "harmful")),
        penalties=_penalties(method, released),
        settings=TrainingSettings(
            epochs=settings.epochs,
            batch_rows=settings.batch_size,
            learning_rate=RATES[strength] if released is None else released.learning_rate,
            strength=strength,
            seed=seed,
        ),
    )
    after = DeepFeatures(**features_behind(trained.parts, subject.activations, subject.cut))
    found = _measured(subject, settings, after, head_of(functional.merge(trained.parts)), seed)
    return {**found, "lambdas": trained.weights.tolist()}


def _penalties(method: str, released: Released | None) -> tuple[Penalty, ...]:
    """Balanced ones, but for `RELEASED`."""
    if method == PLAIN:
        return ()
    if released is not None and method == RELEASED:
        made = methods.algorithm1(lambda_primary=released.lambda_primary, lambda_harmful=released.lambda_harmful)
        return made.penalties or ()
    return methods.by_name(method)().penalties or ()


def _measured(
    subject: NetworkSubject, settings: argparse.Namespace, after: DeepFeatures, head: Head, seed: int
) -> dict[str, Any]:
    if any(not np.isfinite(of.train.x).all() or not of.train.x.any() for of in after):
        return {"broken": True}
    before, now = (jax.tree.map(jnp.asarray, features.pair()) for features in (subject.published, after))
    extraction = Extraction(before, now)
    operators = attacks.standard_operators(ATTACKERS, steps=settings.attack_steps, rates=settings.rates)
    return {
        "broken": False,
        "accuracy": {
            part: float(np.mean(head.logits(rows.x).argmax(1) == rows.labels))
            for part, rows in {"train": after.primary.train, "heldout": after.primary.heldout}.items()
            if rows is not None
        },
        "ratios": ratio_records(extraction),
        "groups": {
            policy: groups._asdict() for policy, groups in groups_by_policy(extraction, jax.random.key(seed)).items()
        },
        "attacks": {task: _probed(features, operators, seed) for task, features in after._asdict().items()},
    }


def _probed(features: FeatureSet, operators: Sequence[attacks.Operator], seed: int) -> dict[str, dict[str, Any]]:
    """What attackers get of one task on one network's features."""
    targets = {"network": Target(*attacked_task(features, losses.squared))}
    return probe_records(attacks.sweep_classes(operators, targets, keys=jax.random.split(jax.random.key(seed), 1)))


def _trunk_accuracy(harmful: FeatureSet) -> float:
    """Held-out accuracy of the normal equations on the harmful activations at the cut, averaged over the image."""
    pooled = harmful.changed(lambda x: x.mean(tuple(range(1, x.ndim - 1)), dtype=np.float64))
    operators = attacks.standard_operators(("normal equations",), steps=1, rates=1)
    return _probed(pooled, operators, seed=0)["normal equations"]["accuracy"]


def _print(settings: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = ["method", "strength", "(i)", "(ii)", "RIR", "RIR, groups", "RIR, released", "released, groups"]
    columns += ["rank H, P", "primary accuracy", "best new primary probe", "best gradient attacker", "normal equations"]
    table = []
    for method, strength in dict.fromkeys((row["method"], row["strength"]) for row in rows):
        runs = [row for row in rows if (row["method"], row["strength"]) == (method, strength)]
        shown = f"{strength:g}" if strength else ""
        broken = sum(run["broken"] for run in runs)
        if broken == len(runs):
            table.append([method, shown, "features zero or infinite", *[""] * (len(columns) - 3)])
            continue
        left = (
            f" ({len(runs) - broken} of {len(runs)} seeds; the others' features are zero or infinite)" if broken else ""
        )
        runs = [run for run in runs if not run["broken"]]
        defined, released = ([run["ratios"][name] for run in runs] for name in ("PseudoInverse", "ReleasedCode"))
        table.append(
            [
                method + left,
                shown,
                *(
                    mean_and_spread([ratio[key] for ratio in defined])
                    for key in ("harmful_ratio", "primary_ratio", "rir")
                ),
                _group_mean(runs, "PseudoInverse"),
                mean_and_spread([ratio["rir"] for ratio in released]),
                _group_mean(runs, "ReleasedCode"),
                ", ".join(f"{ratio['rank']['harmful']} {ratio['rank']['primary']}" for ratio in defined),
                mean_and_spread([run["accuracy"]["heldout"] for run in runs]),
                *(
                    mean_and_spread([best_follower(run["attacks"][task]) for run in runs])
                    for task in ("primary", "harmful")
                ),
                mean_and_spread([run["attacks"]["harmful"]["normal equations"]["accuracy"] for run in runs]),
            ]
        )
    print_table(columns, table, title=f"{settings.config}: last blocks trained, mean (sd) over seeds")


def _group_mean(runs: Sequence[Mapping[str, Any]], policy: str) -> str:
    """Of the groups' RIR; a dash where the features of a whole group are zero."""
    means = np.array([run["groups"][policy]["rir"][0] for run in runs], float)
    return mean_and_spread(means) if np.isfinite(means).all() else "-"


if __name__ == "__main__":
    main()
