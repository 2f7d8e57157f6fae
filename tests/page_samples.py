"""Results of every kind of run for the tests of the page, made by hand from the library's own types, and a reader of pages."""

import atexit
import json
import shutil
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch

import numpy as np

from cimm_jax import cli
from cimm_jax.attacks.measures import Deviation, steps_to_reach
from cimm_jax.attacks.outcome import THRESHOLDS, Interval, Outcome
from cimm_jax.measures.bootstrap import RatioIntervals
from cimm_jax.commands import diagnose as diagnose_command
from cimm_jax.commands import sweep as sweep_command
from cimm_jax.commands.attack_shared import outcome_records
from cimm_jax.commands.report import command_line
from cimm_jax.commands.shared import manifest, ratio_record
from cimm_jax.measures.diagnosis import Alignment, BudgetRow, Diagnosis, Protection
from cimm_jax.files import write_json
from cimm_jax.closed_form.limits import Limit, Share
from cimm_jax.methods import Info
from cimm_jax.methods._sweep import Measured
from cimm_jax.measures.metrics import Conditions, ImmunizationRatio, Judgement, Verdict
from cimm_jax.report.page import Run, card_of, part_of, render
from cimm_jax.numerics.spectra import Spectrum

ATTACKERS = {"line_search": False, "adam": False, "sgd": False, "newton": True}
"""Whether each is adaptive."""
SPEED = {"undefended": 1.0, "pencil": 0.1, "pencil_no_slower": 0.001}
"""How fast gradient followers learn the harmful task."""
EXTRACTORS = tuple(SPEED)
RECORDS = [1, 2, 5, 10, 20]
COMMANDS = {
    "attack": cli.Attack(
        rows=20,
        attackers=tuple(ATTACKERS),
        attack_steps=20,
        methods=EXTRACTORS[1:],
        rates=3,
        seeds=2,
        out=Path("runs/a"),
    ),
    "immunize": cli.Immunize(steps=4, resamples=20, rotate=False, json=True),
    "diagnose": cli.Diagnose(budgets=("1", "keep"), primary="3", harmful="5"),
    "sweep": cli.Sweep(methods=("ill_only",), seeds=1, steps=1, learning_rate=0.5),
}
PAIRS = [(primary, harmful) for primary in range(10) for harmful in range(10) if primary != harmful]


def results_of(command: str) -> dict:
    """What a run writes, as it is read again; a fresh copy, to be changed at will."""
    return json.loads((sample_runs()[command] / "results.json").read_text())


@cache
def sample_runs() -> dict[str, Path]:
    """Run folders by command, made once for all tests."""
    place = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, place)
    made = {"attack": _attack(), "immunize": _immunize(), "diagnose": _diagnose(), "sweep": _sweep()}
    for command, results in made.items():
        (place / command).mkdir()
        data = {"train": np.arange(len(command), dtype=float)}
        write_json(place / command / "results.json", {**manifest(COMMANDS[command], data), **results})
    return {command: place / command for command in made}


def page_of(*results: dict, folder: str = "runs/one", drawn: bool = True) -> tuple[str, str]:
    """The page and the model card of results; with `drawn` False, pictures are left out to save time."""
    runs = [Run(folder, result, command_line(result)) for result in results]
    with nullcontext() if drawn else patch("cimm_jax.report.page_figures._svg", return_value=b"<svg/>"):
        parts = [part_of(run) for run in runs]
    card = card_of(runs, parts)
    return render(parts, card, "0"), card


def _attack() -> dict:
    tasks = {
        task: {
            extractor: {name: _outcome(name, SPEED[extractor] if task == "harmful" else 1.0) for name in ATTACKERS}
            for extractor in EXTRACTORS
        }
        for task in ("harmful", "primary", "benign")
    }
    rates = {name: [0.1, 1.0, 10.0] if name in ("adam", "sgd") else [] for name in ATTACKERS}
    return {
        "data": {"data": "digits", "data_dir": None, "primary": None, "harmful": None},
        "rows": {task: {"train": 20, "heldout": 10} for task in tasks},
        "budget": {
            **{"steps": 20, "rates": rates, "seeds": 2, "loss": "squared"},
            **{"attackers": list(ATTACKERS), "finished": list(ATTACKERS)},
        },
        "classes": True,
        "records": RECORDS,
        "extractors": {name: {part: _measured() for part in ("train", "heldout")} for name in EXTRACTORS},
        "tasks": {task: outcome_records(outcomes) for task, outcomes in tasks.items()},
        "best_so_far": {
            name: {kind: np.exp(-speed * np.arange(1, 8)) for kind in ("gradient", "all")}
            for name, speed in SPEED.items()
        },
    }


def _outcome(name: str, speed: float) -> Outcome:
    speed = 9.0 if ATTACKERS[name] else speed * {"line_search": 1.0, "adam": 2.0, "sgd": 0.5}[name]
    curve = np.exp(-speed * np.array(RECORDS))
    heldout = 0.1 + 0.9 * curve
    steps = tuple(steps_to_reach(RECORDS, curve, share) for share in THRESHOLDS)
    return Outcome(
        attacker=name,
        adaptive=ATTACKERS[name],
        trials=1,
        rate=1.0,
        rate_at_edge=False,
        diverged=0.0,
        left=Interval(*[curve[-1]] * 3),
        heldout_left=Interval(*[heldout[-1]] * 3),
        accuracy=Interval(*[1 - heldout[-1] / 2] * 3),
        norm_ratio=0.5,
        curve=curve,
        heldout_curve=heldout,
        steps=steps,
        heldout_steps=steps,
        undefended_steps=(1.0, 2.0, 5.0),
        undefended_heldout_steps=(1.0, 2.0, 5.0),
        deviation=Deviation(10.0, 10.0, 20.0, 20.0),
        gap=0.2,
        breaks=steps[0] < np.inf,
        breaks_heldout=steps[0] < np.inf,
    )


def _immunize() -> dict:
    steps = np.arange(1001)
    curves = {
        f"{task} {state}": np.exp(-speed * steps)
        for task, state, speed in (
            *(("primary", "undefended", 0.1), ("primary", "immunized", 0.2)),
            *(("harmful", "undefended", 0.1), ("harmful", "immunized", 1e-4)),
        )
    }
    verdict = Verdict(True, True, True, True, ("(a) yes: harder", "(b) yes: as easy", "(c) yes: kept"))
    measured = {part: _measured() for part in ("train", "heldout")}
    return {
        "rows": {part: {"primary": 20, "harmful": 20} for part in measured},
        **{name: {part: values[name] for part, values in measured.items()} for name in ("ratios", "limit")},
        "intervals": {part: RatioIntervals(*[(1.0, 2.0)] * 5)._asdict() for part in measured},
        "excess_left": dict.fromkeys(measured, curves),
        "verdict": {part: verdict._asdict() for part in measured},
        "history": Info(*np.ones((3, 4)), np.zeros(4, bool))._asdict(),
    }


def _diagnose() -> dict:
    limit = Limit(np.inf, 100.0, np.log(100.0), 50.0, 60.0, 4, 4, True, 0.01, True)
    rows = [BudgetRow(budget, 1.0, 10.0, 0.5, _ratio(), _ratio(), 0.9, 1.5) for budget in (1.0, "keep")]
    protection = Protection(1e-3, 0.8, 0.9, 2.0, (np.array([0.1, 1.0, 10.0]), np.array([0.2, 0.8, 0.9])))
    diagnosis = Diagnosis(
        **{
            "verdict": "immunizable",
            "reasons": ("Because of this.", "And of that."),
            "limit": limit,
            "rank_harmful": 5,
        },
        **{"primary_only": 0, "harmful_only": 1, "ridge": 1e-3, "ridge_path": None, "budgets": tuple(rows)},
        alignment=Alignment(1.5, np.full((2, 2), 0.5), np.array([10.0, 80.0])),
        mu=np.array([10.0, 1.0, 0.1, 0.01]),
        **{"harmful_energy": np.full(4, 0.25), "primary_energy": np.array([0.0, 0.0, 0.5, 0.5])},
        **{"undefended": (np.array([0.1]), np.array([0.1])), "watched": (1000,)},
        **{"protection": protection, "sample_only": protection._replace(ridge=1e-6)},
    )
    return {"diagnosis": diagnose_command._record(diagnosis)}


def _sweep() -> dict:
    shape = (len(PAIRS), 1)
    ones, yes = np.ones(shape), np.ones(shape, bool)
    ratio = _ratio(ones)
    judged = Judgement(ratio, ones, ones, Conditions(yes, yes, ~yes))
    measured = Measured(judged, judged, ratio, Share(0.5 * ones, ones, 2 * ones, ~yes))
    return {
        "pairs": [{"primary": primary, "harmful": harmful} for primary, harmful in PAIRS],
        "rows": {"train": 12, "heldout": 12},
        "methods": {"ill_only": sweep_command._record(measured)},
    }


def _measured() -> dict:
    ratios = {policy: ratio_record(_ratio()) for policy in ("PseudoInverse", "ReleasedCode")}
    return {"ratios": ratios, "limit": Share(0.5, 1.0, 2.0, False)._asdict()}


def _ratio(ones=1.0) -> ImmunizationRatio:
    spectrum = Spectrum(8.0 * ones, 4.0 * ones, 0.5 * ones, np.asarray(7 * ones, int), np.asarray(0 * ones, bool))
    return ImmunizationRatio(9.0 * ones, 18.0 * ones, 2.0 * ones, *[spectrum] * 4)


def command_of(shown: str) -> cli.Attack | cli.Diagnose | cli.Immunize | cli.Sweep:
    """The command that a command line asks for; where it writes is left at the default."""
    import shlex

    import tyro

    program, *arguments = shlex.split(shown)
    assert program == "cimm"
    return tyro.cli(cli.Command, args=arguments)  # pyright: ignore


def without_output(command):
    """The same command, writing to the default folder and printing tables."""
    default = type(command)()
    return replace(command, out=default.out, json=default.json)


VOID = {"meta", "link", "img", "source", "br", "wbr"}


class Page(HTMLParser):
    """What a page holds: headings, texts, tags; fails on a tag that is not closed in order.

    Attributes:
      text: all of it, as people read it.
      headings: (level, text) in order.
      tags: (name, attributes) in order.
      headers: (scope, text) of table headers.
      alone: text of every cell, header, item, paragraph and definition.
    """

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.text, self.headings, self.tags, self.headers, self.alone = "", [], [], [], []
        self._open = []
        self.feed(html)
        self.close()
        assert not self._open, [name for name, *_ in self._open]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs), len(self.text)))

    def handle_endtag(self, tag):
        name, attributes, start = self._open.pop()
        assert name == tag, (name, tag, self.getpos())
        text = " ".join(self.text[start:].split())
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append((int(tag[1]), text))
        if tag == "th":
            self.headers.append((attributes["scope"], text))
        if tag in ("td", "th", "li", "p", "dd", "code", "figcaption"):
            self.alone.append(text)

    def handle_data(self, data):
        if not self._open or self._open[-1][0] not in ("style", "title"):
            self.text += data.replace("\N{NO-BREAK SPACE}", " ")

    def attributes(self, name: str) -> list[str]:
        """The values of an attribute, wherever it is."""
        return [attributes[name] for _, attributes in self.tags if name in attributes]
