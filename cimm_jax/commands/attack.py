"""`cimm attack`: what every attacker of a sweep gets from immunized extractors, and what the protection costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from cimm_jax import attacks, losses
from cimm_jax.attacks import Operator, Swept, Target
from cimm_jax.attacks.linear_probe import QUADRATIC_ONLY
from cimm_jax.attacks.protocol import are_classes, log_spaced_steps
from cimm_jax.cli import Attack
from cimm_jax.commands.attack_records import best_so_far_records, outcome_records
from cimm_jax.commands.battlefield import extractors, read_battlefield
from cimm_jax.commands.runs import read_results
from cimm_jax.commands.shared import blas_threads_for, check_count, manifest, progress_bar, ratio_record
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.limits import share_of_pair
from cimm_jax.metrics import relative_immunization_ratio
from cimm_jax.report.attack import attack_plot
from cimm_jax.report.attack_words import attack_paragraphs, print_attack
from cimm_jax.spectra import PseudoInverse, ReleasedCode
from cimm_jax.tasks import SplitPair, SplitTask, Task

POLICIES = (PseudoInverse(), ReleasedCode())


def run_attack(command: Attack) -> None:
    """Loads or immunizes, attacks, writes results.json and attack.png, prints what broke which extractor first.

    Raises:
      KeyboardInterrupt: after everything that had been finished was written and printed.
    """
    check_count(command.seeds, "seeds")
    check_count(command.immunization_steps, "immunization_steps")
    operators = attacks.standard_operators(
        command.attackers or attackers_for(command.loss),
        steps=command.attack_steps,
        rates=command.attack_rates or command.rates,
        schedules=command.schedules,
        loss=getattr(losses, command.loss),
    )
    field = read_battlefield(command)
    folder = output_folder(command.out)
    with blas_threads_for(field.pair.train.primary.x.shape[1]):
        thetas = extractors(field, seed=command.seed, steps=command.immunization_steps, batch_size=command.batch_size)
        swept = _sweep(command, field.tasks(), thetas, operators)
    records = log_spaced_steps(command.attack_steps)
    outcomes = {task: attacks.outcomes(found, list(thetas), records) for task, found in swept.items()}
    finished = list(swept["harmful"])
    results: dict[str, Any] = {
        **manifest(command, {"pair": field.pair, "benign": field.benign}),
        "data": field.settings,
        "rows": {
            task: {part: len(t.x) for part, t in split._asdict().items()} for task, split in field.tasks().items()
        },
        "budget": {
            "steps": command.attack_steps,
            "rates": {operator.name: operator.rates if operator.has_rate else [] for operator in operators},
            "seeds": command.seeds,
            "loss": command.loss,
            "attackers": [operator.name for operator in operators],
            "finished": finished,
        },
        "classes": are_classes(field.pair.train.harmful.y),
        "records": records,
        "extractors": {name: _measured(theta, field.pair) for name, theta in thetas.items()},
        "tasks": {task: outcome_records(found) for task, found in outcomes.items()},
        "best_so_far": best_so_far_records(swept["harmful"], list(thetas)),
    }
    written = write_json(folder / "results.json", results)
    shown = read_results(folder)
    picture = write_whole(folder / "attack.png", attack_plot(shown))
    if command.json:
        print(written.read_text(), end="")
    else:
        print_attack(shown)
        print("\n" + "\n\n".join(attack_paragraphs(shown)))
        print(f"\nPicture: {picture}\nFigures: {written}")
    if len(finished) < len(operators) or len(swept) < len(field.tasks()):
        raise KeyboardInterrupt(f"{len(finished)} of {len(operators)} attackers were finished, see {written}")


def attackers_for(loss: str) -> tuple[str, ...]:
    """The standard attackers that can minimise the loss."""
    if loss == "squared":
        return attacks.STANDARD
    names = [name for name in attacks.STANDARD if name.split(" + ")[-1] not in QUADRATIC_ONLY]
    return (*names, "whiten + lbfgs")


def _sweep(
    command: Attack, tasks: Mapping[str, SplitTask], thetas: Mapping[str, jax.Array], operators: Sequence[Operator]
) -> dict[str, dict[str, Swept]]:
    """By task and attacker. Ctrl-C ends it: harmful first, and the other tasks only with the attackers finished there."""
    keys = jax.random.split(jax.random.key(command.seed), command.seeds)
    swept = {}
    for task, split in tasks.items():
        targets = {
            name: Target(
                Task(split.train.x @ theta, split.train.y), Task(split.heldout.x @ theta, split.heldout.y), theta
            )
            for name, theta in thetas.items()
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
