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

A run that is finished is not made again. 19 minutes of processor time for both strengths and three seeds. Algorithm 1 reaches
RIR 6.8 to 1,350 at strength 1 and 198 to 24,500 at 10, and keeps the primary accuracy (0.916 before, 0.914 to 0.922 after), but
the best attacker still gets 0.794 to 0.850 (undefended 0.852). IMMA's RIR is 0.09 and 0.26 at strength 10, and every attacker
on its features guesses. The frozen activations before the trained blocks give 0.899.

tail_vit_mnist trains the last block of a small transformer, after training the transformer (`pretrain_vit`) into OUT/vit unless
--weights names one. 24 minutes for both strengths and two seeds, two programs at a time on busy cores. Algorithm 1 reaches RIR
4.5 to 9.2, but makes the harmful task better conditioned too, and the best attacker gets 0.637 to 0.639 (undefended 0.623).

All rows: docs/results.md.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cimm_jax import attacks
from cimm_jax.commands.deep_features import DeepInputs, head_of
from cimm_jax.commands.tail_measures import accuracies, groups_of, pairs_of, ratios_of
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder, write_json
from cimm_jax.networks import Backbone, functional
from cimm_jax.report.attack_facts import UNDEFENDED
from cimm_jax.report.tables import print_table
from cimm_jax.tasks import TaskPair
from cimm_jax.methods import tail_penalties
from cimm_jax.networks.head import Head
from cimm_jax.attacks.class_sweep import attack_networks
from cimm_jax.networks.features import DeepFeatures, FeatureSet
from cimm_jax.networks.tail_features import features_behind
from cimm_jax.networks.training import Activations, Settings, train_tail
from experiments.common import PUBLISHED, parser
from experiments.measure import mean_and_spread
from experiments.probes import FOLLOWERS, best_follower, probe_records
from experiments.resumed import resumed
from experiments.table3_deepnets import CONFIGURATIONS, add_image_settings, check_same_inputs, read_inputs

PLAIN = "plain"
ATTACKERS = (*FOLLOWERS, "normal equations")
TAILS = {
    "tail_resnet20_mnist": ("resnet20_mnist", "layer3.1"),
    "tail_resnet56_mnist": ("resnet56_mnist", "layer3.7"),
    "tail_vit_mnist": ("vit_mnist", "block5"),
}
"""A configuration of `table3_deepnets`, and where its network is cut."""

RATES = {1.0: 3e-2, 10.0: 1e-2}
"""Learning rates by strength. On 2,000 images, strength 1 and four epochs, Algorithm 1 kept accuracy within 3 points at 3e-2;
at 1e-1 every feature became zero."""


@dataclasses.dataclass(frozen=True)
class Situation:
    """What every row starts from.

    Attributes:
      network: the published one.
      cut: where its tail begins.
      sets: activations there, by task.
      before: features of the published network.
      pairs: the same as tasks, by part.
    """

    network: Backbone
    cut: str
    sets: dict[str, FeatureSet]
    before: DeepFeatures
    pairs: dict[str, TaskPair]


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the rows that are not finished, writes runs.json and results.json; prints the table."""
    settings = _settings(arguments)
    jax.config.update("jax_enable_x64", True)
    name, cut = TAILS[settings.config]
    folder = output_folder(settings.out / settings.config)
    inputs = read_inputs(CONFIGURATIONS[name], settings, settings.weights)
    for task, images in inputs.images.items():
        if images.heldout is None:
            raise InputError(f"{task}: has no held-out images to judge probes on; give images in two parts")
    check_same_inputs(folder, inputs.described())  # or rows that are finished would be written over
    situation = _situation(inputs, cut, settings.cache)
    made_by = {key: getattr(settings, key) for key in ("epochs", "batch_size", "attack_steps", "rates")}
    rows = resumed(
        folder / "runs.json",
        _wanted(settings),
        partial(_row, situation, settings),
        made_by={**made_by, "attackers": list(ATTACKERS), "data": inputs.described()},
        at_once=1,
    )
    trunk = _trunk_accuracy(situation)
    results = {
        "config": {"name": settings.config, "base": name, "cut": cut},
        "attack_steps": settings.attack_steps,
        "trunk_accuracy": trunk,
        "rows": rows,
    }
    for place in (folder, settings.out):  # the latter holds the configuration that was run last
        write_json(place / "results.json", results)
    _print(settings, rows)
    print(
        f"An attacker who takes the frozen activations before the trained blocks, averaged over the image, gets {trunk:.3f}."
    )


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, "runs/table3")
    made.add_argument("--config", choices=tuple(TAILS), required=True)
    made.add_argument("--methods", nargs="+", choices=(PLAIN, *PUBLISHED), default=(PLAIN, *PUBLISHED))
    made.add_argument("--strengths", nargs="+", type=float, choices=tuple(RATES), default=tuple(RATES))
    made.add_argument("--seeds", type=int, default=1)
    made.add_argument("--epochs", type=int, default=2)
    made.add_argument("--batch-size", type=int, default=64)
    made.add_argument("--attack-steps", type=int, default=600)
    made.add_argument("--rates", type=int, default=7, help="learning rates of each attacker that has one")
    add_image_settings(made)
    made.add_argument("--cache", type=Path, help="folder that keeps activations between runs")
    made.add_argument("--weights", type=Path, help="file of the network's weights, instead of the configuration's")
    return made.parse_args(arguments)


def _wanted(settings: argparse.Namespace) -> list[dict[str, Any]]:
    """By strength, then by method; training on the primary task alone and no training are there once."""
    seeds = range(settings.seed, settings.seed + settings.seeds)
    chosen = [(method, strength) for strength in settings.strengths for method in settings.methods if method != PLAIN]
    if PLAIN in settings.methods:
        chosen.insert(0, (PLAIN, 1.0))
    trained = [{"method": method, "strength": strength, "seed": seed} for method, strength in chosen for seed in seeds]
    return [{"method": UNDEFENDED, "strength": 0.0, "seed": settings.seed}, *trained]


def _situation(inputs: DeepInputs, cut: str, cache: Path | None) -> Situation:
    sets = inputs.outputs(cache, cut)
    before = DeepFeatures(**features_behind(functional.split(inputs.network, cut), sets, cut))
    return Situation(inputs.network, cut, sets, before, pairs_of(before))


def _row(
    situation: Situation, settings: argparse.Namespace, *, method: str, strength: float, seed: int
) -> Mapping[str, Any]:
    if method == UNDEFENDED:
        return _measured(situation, settings, situation.before, head_of(situation.network), seed)
    trained = train_tail(
        functional.split(situation.network, situation.cut),
        situation.cut,
        *(Activations(*situation.sets[task].train) for task in ("primary", "harmful")),
        penalties=() if method == PLAIN else tail_penalties.by_name(method),
        settings=Settings(
            epochs=settings.epochs,
            batch_rows=settings.batch_size,
            learning_rate=RATES[strength],
            strength=strength,
            seed=seed,
        ),
    )
    after = DeepFeatures(**features_behind(trained.parts, situation.sets, situation.cut))
    found = _measured(situation, settings, after, head_of(functional.merge(trained.parts)), seed)
    return {**found, "lambdas": trained.weights.tolist()}


def _measured(
    situation: Situation, settings: argparse.Namespace, after: DeepFeatures, head: Head, seed: int
) -> dict[str, Any]:
    if any(not np.isfinite(of.train.x).all() or not of.train.x.any() for of in after):
        return {"broken": True}
    found: dict[str, Any] = {"broken": False, "accuracy": accuracies(after, head)}
    pair, before = pairs_of(after)["train"], situation.pairs["train"]
    keys = ("harmful_ratio", "primary_ratio", "rir")
    found["ratios"] = {
        policy: {
            **{key: float(ratio[key]) for key in keys},
            "rank": {task: int(ratio[task]["rank"]) for task in ("harmful", "primary")},
            "kappa": {task: float(ratio[task]["kappa"]) for task in ("harmful", "primary")},
        }
        for policy, ratio in ratios_of(pair, before).items()
    }
    found["groups"] = {
        policy: {key: list(groups[key]) for key in keys}
        for policy, groups in groups_of(pair, before, jax.random.key(seed)).items()
    }
    operators = attacks.standard_operators(ATTACKERS, steps=settings.attack_steps, rates=settings.rates)
    keys = jax.random.split(jax.random.key(seed), 1)
    found["attacks"] = {
        task: probe_records(attack_networks({"network": features}, operators, keys=keys))
        for task, features in after._asdict().items()
    }
    return found


def _trunk_accuracy(situation: Situation) -> float:
    """Held-out harmful accuracy of the normal equations on the activations at the cut, averaged over the image."""
    pooled = situation.sets["harmful"].changed(lambda x: x.mean(tuple(range(1, x.ndim - 1)), dtype=np.float64))
    operators = attacks.standard_operators(("normal equations",), steps=1, rates=1)
    swept = attack_networks({"trunk": pooled}, operators, keys=jax.random.split(jax.random.key(0), 1))
    return float(swept["normal equations"].accuracy.max())


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
