"""What attacks on tasks and on networks share: the attackers, what they found as plain numbers, and how it is told."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cimm_jax import attacks
from cimm_jax.attacks import Operator, Outcome, Swept
from cimm_jax.cli import Attack
from cimm_jax.commands.runs import read_results
from cimm_jax.commands.shared import progress_bar
from cimm_jax.errors import InputError
from cimm_jax.files import write_json, write_whole
from cimm_jax.numerics import losses
from cimm_jax.report.attack import attack_plot
from cimm_jax.report.attack_facts import UNDEFENDED
from cimm_jax.report.attack_words import attack_paragraphs, print_attack


def operators_of(command: Attack, standard: Sequence[str]) -> tuple[Operator, ...]:
    """The attackers that were asked for, or the standard ones."""
    return attacks.standard_operators(
        command.attackers or standard,
        steps=command.attack_steps,
        rates=command.attack_rates or command.rates,
        schedules=command.schedules,
        loss=getattr(losses, command.loss),
    )


def check_left_out(command: Attack, names: Sequence[str]) -> None:
    """Raises `InputError` for a setting that the runs already decided."""
    for name in names:
        if getattr(command, name) != getattr(Attack, name):
            raise InputError(f"{name}: the runs decide that; leave it out")


def swept_by_task(
    tasks: Mapping[str, Callable[..., dict[str, Swept]]], operators: Sequence[Operator]
) -> dict[str, dict[str, Swept]]:
    """By task and attacker, with a progress bar each. Ctrl-C ends it; what is finished of a task is kept.

    Args:
      tasks: by name, the harmful one first, a function of `progress` that sweeps the operators over it.
      operators: the attackers.

    Raises:
      KeyboardInterrupt: if nothing at all was finished.
    """
    swept: dict[str, dict[str, Swept]] = {}
    for task, sweep in tasks.items():
        with progress_bar(f"attacking the {task} task", len(operators)) as progress:
            try:
                swept[task] = sweep(progress=progress)
            except KeyboardInterrupt:
                if not swept:
                    raise
                break
        if len(swept[task]) < len(operators):
            break
    return swept


def all_finished(
    swept: Mapping[str, Mapping[str, Swept]], tasks: Collection[str], operators: Sequence[Operator]
) -> bool:
    """Whether every attacker finished every task."""
    return [len(found) for found in swept.values()] == [len(operators)] * len(tasks)


def sweep_records(
    command: Attack, operators: Sequence[Operator], swept: Mapping[str, Mapping[str, Swept]], extractors: Sequence[str]
) -> dict[str, Any]:
    """What a sweep had to spend and what it found.

    Args:
      command: the settings.
      operators: the attackers, finished or not.
      swept: by task, the harmful one among them, and attacker.
      extractors: names, the undefended one first.
    """
    records = attacks.log_spaced_steps(command.attack_steps)
    return {
        "budget": {
            "steps": command.attack_steps,
            "rates": {operator.name: operator.rates if operator.has_rate else [] for operator in operators},
            "seeds": command.seeds,
            "loss": command.loss,
            "attackers": [operator.name for operator in operators],
            "finished": list(swept["harmful"]),
        },
        "records": records,
        "tasks": {task: outcome_records(attacks.outcomes(found, extractors, records)) for task, found in swept.items()},
        "best_so_far": _best_so_far(swept["harmful"], extractors),
    }


def outcome_records(outcomes: Mapping[str, Mapping[str, Outcome]]) -> dict[str, Any]:
    """By extractor and attacker."""
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


def deliver(
    command: Attack,
    folder: Path,
    results: Mapping[str, Any],
    *,
    complete: bool,
    print_more: Callable[[Mapping[str, Any]], None] | None = None,
) -> None:
    """Writes results.json and attack.png, and prints what broke which extractor first.

    Args:
      command: the settings.
      folder: where to write.
      results: what was found.
      complete: whether every attacker finished every task.
      print_more: called with the results between the tables and the words.

    Raises:
      KeyboardInterrupt: after everything was written and printed, if the results are not complete.
    """
    written = write_json(folder / "results.json", dict(results))
    shown = read_results(folder)
    picture = write_whole(folder / "attack.png", attack_plot(shown))
    if command.json:
        print(written.read_text(), end="")
    else:
        print_attack(shown)
        if print_more is not None:
            print_more(shown)
        print("\n" + "\n\n".join(attack_paragraphs(shown)))
        print(f"\nPicture: {picture}\nFigures: {written}")
    if not complete:
        task, by_extractor = list(shown["tasks"].items())[-1]
        finished, asked = len(by_extractor[UNDEFENDED]), len(shown["budget"]["attackers"])
        raise KeyboardInterrupt(f"{finished} of {asked} attackers were finished on the {task} task, see {written}")


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
