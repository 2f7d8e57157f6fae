"""`cimm attack`: what every attacker of a sweep gets from immunized extractors, and what the protection costs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax import attacks, losses
from cimm_jax.attacks import Operator, Outcome, Swept, Target
from cimm_jax.attacks.protocol import are_classes, log_spaced_steps
from cimm_jax.cli import Attack
from cimm_jax.commands.defences import build_defences, check_run, immunized, read_runs
from cimm_jax.commands.shared import check_count, manifest, progress_bar, ratio_record
from cimm_jax.data import load_benign, load_pair
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.limits import share_of_pair
from cimm_jax.methods.run import check_steps
from cimm_jax.metrics import relative_immunization_ratio
from cimm_jax.report.attack import attack_plot
from cimm_jax.report.attack_words import attack_paragraphs, print_attack
from cimm_jax.spectra import PseudoInverse, ReleasedCode
from cimm_jax.tasks import SplitPair, SplitTask, Task

UNDEFENDED = "undefended"
POLICIES = (PseudoInverse(), ReleasedCode())


class Battlefield(NamedTuple):
    """What is attacked.

    Attributes:
      pair: the pair of tasks.
      tasks: harmful, primary and, if there is one, benign.
      thetas: extractors by name, the undefended identity first.
    """

    pair: SplitPair
    tasks: dict[str, SplitTask]
    thetas: dict[str, jax.Array]


def run_attack(command: Attack) -> None:
    """Loads or immunizes, attacks, writes results.json and attack.png, prints what broke which extractor first.

    Raises:
      KeyboardInterrupt: after everything that had been finished was written and printed.
    """
    check_count(command.seeds, "seeds")
    check_steps(command.immunization_steps, "immunization_steps")
    operators = attacks.standard_operators(
        command.attackers or _for_loss(command.loss),
        steps=command.attack_steps,
        rates=command.attack_rates or command.rates,
        schedules=command.schedules,
        loss=getattr(losses, command.loss),
    )
    field, data_settings = _battlefield(command)
    folder = output_folder(command.out)
    swept = _sweep(command, field, operators)
    records = log_spaced_steps(command.attack_steps)
    outcomes = {task: attacks.outcomes(found, list(field.thetas), records) for task, found in swept.items()}
    finished = list(swept["harmful"])
    results: dict[str, Any] = {
        **manifest(command, {"pair": field.pair, "benign": field.tasks.get("benign")}),
        "data": data_settings,
        "rows": {task: {part: len(t.x) for part, t in split._asdict().items()} for task, split in field.tasks.items()},
        "budget": {
            "steps": command.attack_steps,
            "rates": {operator.name: operator.rates if operator.has_rate else [] for operator in operators},
            "seeds": command.seeds,
            "loss": command.loss,
            "attackers": [operator.name for operator in operators],
            "finished": finished,
        },
        "classes": are_classes(field.tasks["harmful"].train.y),
        "records": records,
        "extractors": {name: _measured(theta, field.pair) for name, theta in field.thetas.items()},
        "tasks": {task: _records(found) for task, found in outcomes.items()},
        "best_so_far": _best_so_far(swept["harmful"], list(field.thetas)),
    }
    written = write_json(folder / "results.json", results)
    picture = write_whole(folder / "attack.png", attack_plot(results))
    if command.json:
        print(written.read_text(), end="")
    else:
        print_attack(results)
        print("\n" + "\n\n".join(attack_paragraphs(results)))
        print(f"\nPicture: {picture}\nFigures: {written}")
    if len(finished) < len(operators) or len(swept) < len(field.tasks):
        raise KeyboardInterrupt(f"{len(finished)} of {len(operators)} attackers were finished, see {written}")


def _for_loss(loss: str) -> tuple[str, ...]:
    """The standard attackers that can minimise the loss."""
    if loss == "squared":
        return attacks.STANDARD
    exact = ("line_search", "optimal_constant", "conjugate_gradient", *(["newton"] if loss == "softmax" else []))
    names = [name for name in attacks.STANDARD if name.split(" + ")[-1] not in exact]
    return (*names, "whiten + lbfgs")


def _battlefield(command: Attack) -> tuple[Battlefield, dict[str, Any]]:
    """What to attack, and the settings that its data came from."""
    runs = read_runs(command.runs)
    settings = {name: getattr(command, name) for name in ("data", "data_dir", "primary", "harmful")}
    methods = {} if runs else build_defences(command.methods, command)
    if runs:
        _check_defaults(command)
        settings = {name: runs[0].settings[name] for name in settings}
        settings["data_dir"] = settings["data_dir"] if command.data_dir is None else command.data_dir
    pair = load_pair(settings["data"], rows=command.rows, **{k: v for k, v in settings.items() if k != "data"})
    benign = load_benign(
        settings["data"], benign=command.benign, rows=command.rows, **{k: v for k, v in settings.items() if k != "data"}
    )
    tasks = {name: SplitTask(*(getattr(part, name) for part in pair)) for name in ("harmful", "primary")}
    tasks |= {} if benign is None else {"benign": benign}
    if command.loss != "squared":
        for name, task in tasks.items():
            if not are_classes(task.train.y):
                raise InputError(f"loss: the {name} task has no classes; use --loss squared")
    pair, tasks = jax.tree.map(jnp.asarray, (pair, tasks))
    thetas = {UNDEFENDED: jnp.eye(pair.train.primary.x.shape[1])}
    for run in runs:
        check_run(run, pair.train)
        thetas[run.name] = jnp.asarray(run.theta)
    if methods:
        with progress_bar("immunizing", len(methods)) as progress:
            for made, (name, method) in enumerate(methods.items()):
                thetas[name] = immunized(method, pair.train, seed=command.seed, steps=command.immunization_steps)
                progress(made + 1)
    return Battlefield(pair, tasks, thetas), {**settings, "data_dir": str(settings["data_dir"] or "")}


def _check_defaults(command: Attack) -> None:
    """Raises `InputError` for settings that the runs already decided."""
    for name in ("data", "primary", "harmful", "methods", "immunization_steps", "learning_rate", "ridge", "budget"):
        if getattr(command, name) != getattr(Attack, name):
            raise InputError(f"{name}: the runs decide that; leave it out")


def _sweep(command: Attack, field: Battlefield, operators: Sequence[Operator]) -> dict[str, dict[str, Swept]]:
    """By task and attacker. Ctrl-C ends it: harmful first, and the other tasks only with the attackers finished there."""
    keys = jax.random.split(jax.random.key(command.seed), command.seeds)
    swept = {}
    for task, split in field.tasks.items():
        targets = {
            name: Target(*(Task(part.x @ theta, part.y) for part in split), theta)
            for name, theta in field.thetas.items()
        }
        with progress_bar(f"attacking the {task} task", len(operators)) as progress:
            try:
                swept[task] = attacks.sweep(operators, targets, keys=keys, progress=progress)
            except KeyboardInterrupt:
                if not swept:
                    raise
                break
        if len(swept[task]) < len(operators):
            break
    return swept


def _measured(theta: jax.Array, pair: SplitPair) -> dict[str, Any]:
    return {
        part: {
            "ratios": {
                type(policy).__name__: ratio_record(relative_immunization_ratio(theta, tasks, policy))
                for policy in POLICIES
            },
            "limit": share_of_pair(theta, tasks)._asdict(),
        }
        for part, tasks in pair._asdict().items()
    }


def _records(outcomes: Mapping[str, Mapping[str, Outcome]]) -> dict[str, Any]:
    return {
        extractor: {
            attacker: {
                **outcome._asdict(),
                **{name: getattr(outcome, name)._asdict() for name in ("left", "heldout_left", "accuracy")},
                "deviation": None if outcome.deviation is None else outcome.deviation._asdict(),
                "slow_down": attacks.slow_down(outcome),
            }
            for attacker, outcome in named.items()
        }
        for extractor, named in outcomes.items()
    }


def _best_so_far(swept: Mapping[str, Swept], extractors: Sequence[str]) -> dict[str, Any]:
    """Expected least excess loss left after 1, 2, ... trials (an attacker at a rate), by extractor and kind of attacker."""
    kinds = {"gradient": [s for s in swept.values() if not s.operator.adaptive], "all": list(swept.values())}
    return {
        extractor: {
            kind: attacks.best_so_far(np.concatenate([s.left[index, ..., -1].mean(-1) for s in members]))
            for kind, members in kinds.items()
            if members
        }
        for index, extractor in enumerate(extractors)
    }
