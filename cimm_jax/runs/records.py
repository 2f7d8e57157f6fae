"""What each command's `results.json` holds, typed. A reader gets these back, never a dictionary."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from cimm_jax.attacks import HeldOut, Outcome
from cimm_jax.attacks.ladder.by_rung import RungFinding
from cimm_jax.attacks.ladder.draws import ImageBudget
from cimm_jax.attacks.ladder.tried import Reached, Tried
from cimm_jax.closed_form.heads import PrimaryKept
from cimm_jax.data import TaskNames
from cimm_jax.measures.diagnosis import Diagnosis
from cimm_jax.measures.explained import BeforeAfter, Explained
from cimm_jax.measures.measured import Measures
from cimm_jax.measures.separable import Separable
from cimm_jax.methods import Measured
from cimm_jax.runs.codec import same
from cimm_jax.runs.network_data import NetworkData
from cimm_jax.runs.source import Source

__all__ = [
    "RECORDS",
    "SCHEMA",
    "AttackRecord",
    "Attacked",
    "Budget",
    "DiagnoseRecord",
    "DigitPair",
    "History",
    "ImmunizeRecord",
    "LadderNetwork",
    "LadderRecord",
    "Manifest",
    "OneOfSeveral",
    "PrimaryPaid",
    "Record",
    "ReportRecord",
    "SeveralTasks",
    "ShownRun",
    "SweepRecord",
    "Training",
    "typed",
]

SCHEMA = 5
"""Layout of results.json; a folder with another one is not read."""


@dataclass(frozen=True)
class Manifest:
    """How a result was made.

    Attributes:
      schema: layout of the file.
      command: which command made it.
      command_line: what makes it again, but for where it writes.
      settings: of the command, the default ones included, by name.
      versions: of what computed it, by package.
      data_sha256: of what it was computed from, by path.
    """

    schema: int
    command: str
    command_line: str
    settings: dict[str, Any]
    versions: dict[str, str]
    data_sha256: dict[str, str]


@dataclass(frozen=True, eq=False)
class Record:
    """The content of one results.json; equal to another that says the same."""

    manifest: Manifest

    def __eq__(self, other: object) -> bool:
        """Whether both say the same; a number that is none equals another."""
        return same(self, other)

    __hash__: ClassVar[None] = None  # pyright: ignore


@dataclass(frozen=True, eq=False)
class DiagnoseRecord(Record):
    """Whether a pair can be immunized.

    Attributes:
      source: of the pair.
      names: of its tasks.
      diagnosis: the answer.
      outputs: the best head on a network's features and on what its published head says of the harmful images, as in
        `LadderNetwork`; empty if there is no network, or no held-out harmful images.
      network: what features are made from; None if there is no network.
      layers: how far the tasks can be told apart, by layer, "features" last; of data, there alone; empty without labels.
    """

    source: Source
    names: TaskNames
    diagnosis: Diagnosis
    outputs: dict[str, Reached]
    network: NetworkData | None
    layers: dict[str, Separable] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """The course of an immunization.

    Attributes:
      loss: primary loss of each step, shape (steps,).
      kappa_steps: steps made before each look at the condition numbers, shape (records,).
      kappa_primary: of the primary probe Hessian, shape (records,).
      kappa_harmful: of the harmful one.
      floored: how many of these looks a floor or the arithmetic decided.
      policy: of the condition numbers.
    """

    loss: np.ndarray
    kappa_steps: np.ndarray
    kappa_primary: np.ndarray
    kappa_harmful: np.ndarray
    floored: int
    policy: str


@dataclass(frozen=True)
class Training:
    """How blocks were trained.

    Attributes:
      trained_from: the first of them.
      lambdas: weight of each penalty, balanced ones filled in; the last one where an accuracy set it.
      epochs: times through the longer data set, where steps are not counted.
      steps: optimizer steps; None where epochs are counted.
      batch_rows: rows of the primary task in a step.
      harmful_rows: rows of the harmful task in a step; None is as many.
      in_pairs: whether harmful rows of a class came two by two.
      learning_rate: the highest.
      warmup: share of the steps over which it rises.
      label_smoothing: share of a target that goes to all classes alike.
      strength: of balanced penalties.
      distillation: weight of the distance from the published outputs.
      temperature: of both.
      longest_gradient: longer ones were shortened to it; None left them.
      primary_accuracy: what the weights were set by; None if they were not.
    """

    trained_from: str
    lambdas: tuple[float, ...]
    epochs: int
    batch_rows: int
    learning_rate: float
    warmup: float
    label_smoothing: float
    strength: float
    steps: int | None = None
    harmful_rows: int | None = None
    in_pairs: bool = False
    distillation: float = 0.0
    temperature: float = 2.0
    longest_gradient: float | None = None
    primary_accuracy: float | None = None


@dataclass(frozen=True)
class PrimaryPaid:
    """What a map leaves of the primary task.

    Attributes:
      explained: share of the primary labels' variance that linear heads explain (`measures.explained`); None without labels.
      accuracy: of the published head behind the map; None if there is no network.
    """

    explained: BeforeAfter | None
    accuracy: float | None


@dataclass(frozen=True)
class OneOfSeveral:
    """One harmful task of several that a map blocks at once.

    Attributes:
      name: of the task.
      rir: of this task and the primary one, by the definition.
      explained: what heads in closed form explain of its labels; None without labels.
      alone: what the same method would leave of the primary task if it blocked this task alone; None for a method that takes
        steps, or that refuses this task alone.
    """

    name: str
    rir: float
    explained: Explained | None
    alone: PrimaryPaid | None


@dataclass(frozen=True)
class SeveralTasks:
    """What a map that blocks several harmful tasks does to each.

    Attributes:
      part: of the data that is judged on: "heldout", or "train" where a task has no other.
      each: the harmful tasks, in the order in which they were given.
      paid: what the map leaves of the primary task.
    """

    part: str
    each: tuple[OneOfSeveral, ...]
    paid: PrimaryPaid


@dataclass(frozen=True, eq=False)
class ImmunizeRecord(Record):
    """One method on one subject.

    Attributes:
      source: of the subject.
      names: of its tasks.
      method: name.
      rows: by part and task.
      measures: what was measured.
      history: the course; None for a closed form, or where nothing was recorded on the way.
      training: of trained blocks; None for a map.
      kept: what the primary task as published lost, by part; None if there is no network.
      network: what features were made from; None if there is no network.
      several: each harmful task by itself, where there are several; the measures are then of all of them as one.
    """

    source: Source
    names: TaskNames
    method: str
    rows: dict[str, dict[str, int]]
    measures: Measures
    history: History | None
    training: Training | None
    kept: dict[str, PrimaryKept] | None
    network: NetworkData | None
    several: SeveralTasks | None = None


@dataclass(frozen=True)
class Budget:
    """What every attacker was given.

    Attributes:
      steps: of each attack.
      rates: learning rates by attacker; empty for one without.
      seeds: of each attack that uses randomness.
      loss: of the probes.
      attackers: asked for.
      finished: those who finished the harmful task.
    """

    steps: int
    rates: dict[str, tuple[float, ...]]
    seeds: int
    loss: str
    attackers: tuple[str, ...]
    finished: tuple[str, ...]


@dataclass(frozen=True)
class Attacked:
    """A defence that was attacked.

    Attributes:
      kind: "map", "blocks", or "none" for the undefended extractor.
      measures: condition numbers and the verdict by part; None for the undefended extractor.
      kept: what the primary task as published lost, by part; None if there is no network.
    """

    kind: str
    measures: Measures | None
    kept: dict[str, PrimaryKept] | None


@dataclass(frozen=True, eq=False)
class AttackRecord(Record):
    """Every attacker against every extractor.

    Attributes:
      source: of the subject.
      names: of its tasks.
      rows: by task and part.
      classes: whether the harmful targets are classes.
      heldout_by: what held-out numbers are shares of: "loss", over that of a zero probe, or "errors", over those of guessing.
      budget: what every attacker was given.
      records: the numbers of steps that were recorded.
      extractors: by name, the undefended one first.
      tasks: outcomes by task, the harmful one first, extractor and attacker.
      best_so_far: expected least excess harmful loss left after 1, 2, ... trials (an attacker at a rate), by extractor and kind
        of attacker ("gradient", "all").
      network: what features were made from; None if there is no network.
    """

    source: Source
    names: TaskNames
    rows: dict[str, dict[str, int]]
    classes: bool
    heldout_by: str
    budget: Budget
    records: tuple[int, ...]
    extractors: dict[str, Attacked]
    tasks: dict[str, dict[str, dict[str, Outcome]]]
    best_so_far: dict[str, dict[str, np.ndarray]]
    network: NetworkData | None


@dataclass(frozen=True)
class LadderNetwork:
    """What was attacked.

    Attributes:
      kind: "none" for the undefended one, "map", "blocks", "random" for the same network before any training, or "alone" for
        one that was trained on the primary task alone.
      primary: share of held-out primary images that its published head classifies rightly; None if there is no head.
      outputs: the best head on what the published head says of the harmful images, with all images, by what is looked at:
        "features", "logits", "softmax", "classes". Whoever keeps an output leaks as much. Empty if there is no head.
    """

    kind: str
    primary: float | None
    outputs: dict[str, Reached]


@dataclass(frozen=True, eq=False)
class LadderRecord(Record):
    """Every family of attackers against every defence, the undefended network and random weights.

    Attributes:
      source: of the subject.
      names: of its tasks.
      classes: of the harmful task.
      judged: the images that decide.
      budgets: images that attackers have, ascending.
      seeds: draws of these images, and of whatever else is random.
      own_images: whether no defence saw the attackers' images.
      networks: by name: the undefended one, the defences, random weights.
      absent: rungs and attackers that do not exist here, by name, each with the reason.
      rungs: what was found, by defence.
      tried: all that it was found from.
      peak_bytes: most memory that the process has held.
      network: what features were made from; None if there is no network.
    """

    source: Source
    names: TaskNames
    classes: int
    judged: HeldOut
    budgets: tuple[ImageBudget, ...]
    seeds: int
    own_images: bool
    networks: dict[str, LadderNetwork]
    absent: dict[str, str]
    rungs: dict[str, tuple[RungFinding, ...]]
    tried: tuple[Tried, ...]
    peak_bytes: int
    network: NetworkData | None


@dataclass(frozen=True)
class DigitPair:
    """Numbers of a pair in a sweep."""

    primary: int
    harmful: int


@dataclass(frozen=True, eq=False)
class SweepRecord(Record):
    """Several methods on every ordered pair of digits.

    Attributes:
      data: name of the data set.
      kind: what a digit stands for.
      steps: of each method that is no closed form.
      seeds: of each pair and method.
      pairs: in the order of the leaves of `methods`.
      rows: of a task, by part.
      methods: what each achieved, every leaf of shape (pairs, seeds).
    """

    data: str
    kind: str
    steps: int
    seeds: int
    pairs: tuple[DigitPair, ...]
    rows: dict[str, int]
    methods: dict[str, Measured]


@dataclass(frozen=True)
class ShownRun:
    """A run that a report shows.

    Attributes:
      folder: as it was given.
      manifest: of the run.
      headline: its result in one sentence.
      claims: what is claimed of it, one sentence each.
    """

    folder: str
    manifest: Manifest
    headline: str
    claims: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ReportRecord(Record):
    """A page made of runs.

    Attributes:
      verdict: of all runs together, in plain words.
      files: what was written, by what it is.
      runs: those shown, in order.
    """

    verdict: str
    files: dict[str, str]
    runs: tuple[ShownRun, ...]


RECORDS: dict[str, type[Record]] = {
    "attack": AttackRecord,
    "diagnose": DiagnoseRecord,
    "immunize": ImmunizeRecord,
    "ladder": LadderRecord,
    "report": ReportRecord,
    "sweep": SweepRecord,
}
"""The type of record by what the manifest calls the command; `cimm attack --ladder` is "ladder"."""


def typed(command: str) -> str:
    """What people type for a command of `RECORDS`, as "cimm attack --ladder" for "ladder"."""
    return "cimm attack --ladder" if command == "ladder" else f"cimm {command}"
