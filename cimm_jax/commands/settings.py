"""What can be asked of each command. Lists in the help come from the registries.

A setting that only some kinds of run have names them in its field's metadata (`only`), and is None or False unless it is given:
`refuse_foreign` then needs no default to compare with.
"""

import inspect
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from cimm_jax.attacks import PREPARATIONS, STANDARD, solver_names
from cimm_jax.attacks.ladder.rungs import RUNGS
from cimm_jax.attacks.optimizers import SCHEDULES
from cimm_jax.closed_form.allocation import check_budget
from cimm_jax.data import DATA_SETS, DigitKind, data_names, is_digit_task
from cimm_jax.data.feature_files import FORMATS, TEST_NAMES
from cimm_jax.data.feature_tasks import HELDOUT_SHARE
from cimm_jax.errors import InputError, naming
from cimm_jax.methods import (
    BY_NAME,
    PRESETS,
    REMOVING,
    HessianFrom,
    LargestKappa,
    Method,
    SignalAware,
    build_methods,
    by_name,
    method_names,
)
from cimm_jax.methods._penalised import DEFAULT_LEARNING_RATE, default_optimizer
from cimm_jax.networks import checkpoint_folder, network_names
from cimm_jax.networks.sources import PACKAGED, packaged_weights
from cimm_jax.networks.weight_files import weights_of
from cimm_jax.runs.immunizing import BATCH_ROWS
from cimm_jax.runs.source import DataSource, FeatureSource, NetworkSource, Source

__all__ = [
    "BATCH",
    "BLOCKS",
    "DATA",
    "DATA_DIR",
    "EXTRACTOR",
    "FEATURES",
    "FEATURE_FILES",
    "FRESH",
    "FRESH_FEATURES",
    "HARMFUL",
    "HARMFUL_TOO",
    "HESSIAN",
    "IMAGES",
    "LADDER",
    "MAP",
    "OWN",
    "PRIMARY",
    "RESERVE",
    "RUNS_OF_DATA",
    "RUNS_OF_FEATURES",
    "RUNS_OF_NETWORKS",
    "STEP_LENGTH",
    "SWEEP",
    "Attack",
    "Common",
    "DataName",
    "DeviceSettings",
    "Diagnose",
    "EraseSettings",
    "Export",
    "FeatureSettings",
    "Flag",
    "Immunize",
    "List",
    "PencilSettings",
    "Report",
    "Reproduce",
    "SubjectSettings",
    "Sweep",
    "network_weights",
    "only",
    "parse_budget",
    "refuse_foreign",
]

DATA, FEATURES = "data sets", "own features (--primary FILE)"
MAP, BLOCKS = "maps of a network (--model)", "trained blocks (--train-from)"
EXTRACTOR = "an extractor behind own features (--extractor)"
"""Kinds of `cimm immunize`."""

FRESH, FRESH_FEATURES = "methods made now", "own features without a run"
RUNS_OF_DATA, RUNS_OF_FEATURES, RUNS_OF_NETWORKS = "runs of a data set", "runs of own features", "runs of a network"
"""Kinds of `cimm attack`."""

_MADE = (DATA, FEATURES, EXTRACTOR, MAP, BLOCKS, FRESH, FRESH_FEATURES)
"""Where a method makes a map, which blocks may be trained to learn."""

_TRAINED = (EXTRACTOR, BLOCKS)
"""Where blocks are trained."""

_PLACED = (FRESH, FRESH_FEATURES, RUNS_OF_FEATURES, RUNS_OF_NETWORKS)
"""Where tasks are named, or where their files are."""

SWEEP, LADDER = "the sweep of linear probes", "--ladder"
"""What `cimm attack` does."""


def only(*kinds: str, default: Any = None) -> Any:
    """A field of these kinds of run alone."""
    return field(default=default, metadata={"only": kinds})


def refuse_foreign(settings: Any, *kinds_asked: str) -> None:
    """Raises `InputError` for a setting that was given and that is of none of these kinds of run."""
    for known in fields(settings):
        kinds, value = known.metadata.get("only"), getattr(settings, known.name)
        # Zero was given: it is no absence.
        if kinds is not None and not set(kinds_asked) & set(kinds) and value is not None and value is not False:
            kinds = [other for other in settings.kinds if other in kinds]
            kind = kinds_asked[-1] if kinds[0] in (SWEEP, LADDER) else kinds_asked[0]
            raise InputError(f"{known.name}: is a setting of {' or '.join(kinds)}, not of {kind}; leave it out")


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _help(text: str) -> Any:
    return tyro.conf.arg(help=text)


def _elsewhere(what: str) -> str:
    return f"With a run: where its {what} are here, if they are not where they were; they must be the same."


Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]

OWN = "FILE.py:NAME, a function in a Python file"
"""How people give a method or an attacker of their own."""

DataName = Annotated[str | None, _help(f"Data set: {_listed(data_names())}; digits if left out.")]
RESERVE = (
    "Share of each harmful class's training rows that the method never sees: attackers of cimm attack --ladder then have "
    "their own; 0 if left out."
)
DATA_DIR = "Folder with the data set's files; without it they are downloaded."
PRIMARY = "Primary digit task: 3 (images of one digit), 0v1 (one digit against another), 3vrest; 0v1 if left out."
HARMFUL = "Harmful digit task, in the same form; 2v3 if left out."
IMAGES = (
    "With --model: images in folders (train/CLASS/*.jpg and test/CLASS/*.jpg, or one image a class), MNIST's folder, an .npz "
    "file of CIFAR-10, or tfds:NAME, such as tfds:cars196 (tfds:NAME@DIR in another folder than $TFDS_DATA_DIR). Of a text "
    "network texts in folders (train/CLASS/*.txt, train/CLASS.txt with a text a line or train/CLASS.jsonl), or newsgroups."
)
FEATURE_FILES = (
    f"Or, as the other task too, a file of own features ({_listed(FORMATS)}), or a folder of such files: see "
    "docs/own_features.md."
)
HARMFUL_TOO = (
    "Further harmful tasks that the same map blocks: files of own features or, with --model, images. Or give --harmful again: "
    "--harmful A --harmful B."
)
STEP_LENGTH = f"Length of a step relative to the extractor's; {DEFAULT_LEARNING_RATE:g} if left out."
BATCH = "Rows of each task per step; all of them if left out."
HESSIAN = "Rows whose Hessians the regularizers look at: all (data), or the batch's, as in the released code."


@dataclass(frozen=True)
class Common:
    """Settings of every command."""

    seed: int = 0
    """Seeds whatever is drawn."""
    out: Path = Path("runs/latest")
    """Folder for results.json and everything else that is written."""
    json: Flag = False
    """Print results.json instead of tables."""
    config: Path | None = None
    """TOML file with any of these settings by name, such as the config.toml of a run's folder; flags win over it."""


@dataclass(frozen=True)
class DeviceSettings:
    """What a command runs on; changes no result."""

    mesh: str | None = None
    """Spread work over so many devices: data=8 (docs/meshes.md); if left out, one, or all of several processes."""
    coordinator: str | None = None
    """Several processes: HOST:PORT of the first, the same for all."""
    processes: int | None = None
    """Several processes: how many."""
    process_id: int | None = None
    """Several processes: the number of this one, from 0; 0 writes and prints."""
    distributed: Flag = False
    """Several processes: take the three from the cluster's settings (Slurm, Open MPI, Kubernetes, Cloud TPU)."""


@dataclass(frozen=True)
class PencilSettings:
    """Settings of the method `pencil`."""

    budget: str | None = only(*_MADE)
    """pencil: largest condition number of the primary task, or keep (the default): as it is."""
    objective: Literal["kappa", "signal"] | None = only(*_MADE)
    """pencil: spend the budget on the condition number (the default, but for networks) or where the labels are."""
    horizon: int | None = only(*_MADE)
    """pencil, objective signal: steps after which the harmful loss is looked at (1000)."""
    primary_no_slower_at: tuple[int, ...] | None = only(*_MADE)
    """pencil, objective signal: numbers of steps at which the primary task must be no slower than undefended."""
    ridge: float | None = only(*_MADE)
    """pencil and erase: ridge relative to the mean eigenvalue of K_P; chosen on held-out primary rows if left out, but 1e-6
    where pencil looks at labels behind a network, and for pencil_signal and pencil_no_slower, and 1e-2 for pencil with
    --train-from."""
    no_rotate: Flag = only(*_MADE, default=False)
    """pencil: leave out the random rotation, which hinders optimizers that look at axes."""

    def pencil_settings(self) -> dict[str, Any]:
        """What was given, as arguments of `methods.pencil`; raises `InputError` for what makes no sense."""
        labels = {"horizon": self.horizon, "primary_no_slower_at": self.primary_no_slower_at}
        labels = {name: value for name, value in labels.items() if value is not None}
        if labels and self.objective != "signal":
            raise InputError(f"{min(labels)}: is a setting of --objective signal; add that, or leave it out")
        given: dict[str, Any] = {} if self.budget is None else {"budget": parse_budget(self.budget)}
        if self.objective is not None:
            given["objective"] = SignalAware(**labels) if self.objective == "signal" else LargestKappa()
        if self.ridge is not None:
            given["ridge"] = self.ridge
        return {**given, "rotate": False} if self.no_rotate else given


@dataclass(frozen=True)
class EraseSettings:
    """Settings of the method `erase`."""

    rank: int | None = only(*_MADE)
    """erase: at most how many directions of the harmful labels go; all if left out."""
    loss_budget: float | None = only(*_MADE)
    """erase: largest share that may be lost of what linear heads explain of the primary labels, such as 0.02; any if left
    out."""
    keep: Literal["outputs", "covariance", "features"] | None = only(*_MADE)
    """erase: what stays: what the best primary heads look at (outputs, the default), all else and the covariance with the
    primary labels (covariance), or all else with the least change (features, which is LEACE)."""

    def erase_settings(self) -> dict[str, Any]:
        """What was given, as arguments of `methods.erase`."""
        given = {"rank": self.rank, "loss_budget": self.loss_budget, "keep": self.keep}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class FeatureSettings:
    """How files of own features are read."""

    label: str | None = only(FEATURES, EXTRACTOR, FRESH_FEATURES)
    """Own features: the column or array with the labels; y or label, if there is one, if left out."""
    target: Literal["classes", "regression"] | None = only(FEATURES, EXTRACTOR, FRESH_FEATURES)
    """Own features: whether labels are classes, whole numbers or text, or amounts; classes if left out."""
    heldout_share: Annotated[
        float | None,
        _help(
            "Own features: share of the rows, of each class alike, that no method sees, so that they judge it, of files "
            f"without a held-out part (x_heldout, or {_listed(TEST_NAMES)} in a folder); {HELDOUT_SHARE:g} if left out."
        ),
    ] = only(FEATURES, EXTRACTOR, FRESH_FEATURES)
    heldout_seed: int | None = only(FEATURES, EXTRACTOR, FRESH_FEATURES)
    """Own features: draws these rows, whatever --seed is; 0 if left out."""

    def feature_source(
        self, primary: str | None, harmful: str | None, *, benign: str | None = None, reserved: float = 0.0
    ) -> FeatureSource:
        """Files at absolute places, so that another command finds them; raises `InputError` if one of the tasks is no file."""
        paths = {"primary": primary, "harmful": harmful, "benign": benign}
        for name, text in paths.items():
            if (text is None and name != "benign") or (text is not None and is_digit_task(text)):
                got = "nothing" if text is None else f"the digit task {text}"
                raise InputError(f"{name}: needs a file or folder of features, as the other task is, got {got}")
        places: dict[str, Any] = {name: Path(text).absolute() for name, text in paths.items() if text is not None}
        return FeatureSource(
            **places,
            label=self.label,
            target=self.target or "classes",
            heldout_share=self.heldout_share,
            heldout_seed=self.heldout_seed or 0,
            reserved=reserved,
        )


@dataclass(frozen=True)
class SubjectSettings(FeatureSettings):
    """What is protected: a pair of tasks of a data set or of own features, or a network and images of both tasks."""

    data: DataName = only(DATA)
    data_dir: Annotated[Path | None, _help(DATA_DIR)] = only(DATA)
    primary: Annotated[str | None, _help(f"{PRIMARY} {FEATURE_FILES} {IMAGES}")] = None
    harmful: Annotated[str | None, _help(f"{HARMFUL} Or a file or folder of own features. With --model: images.")] = (
        None
    )
    reserve: Annotated[float, _help(RESERVE)] = 0.0
    model: Annotated[
        str | None,
        _help(
            f"Network: {_listed(n for n in network_names() if n != 'linear')}; a checkpoint folder of the Hugging Face hub; or "
            "FILE.py:NAME. See docs/networks.md."
        ),
    ] = None
    weights: Path | None = only(MAP, BLOCKS)
    """Network: its weights, a safetensors file or a folder with one; those of a checkpoint folder are in it, and those of text
    networks in a package."""
    primary_classes: tuple[str, ...] | None = only(MAP, BLOCKS)
    """Network: the primary classes to use, by name, or a text file with a name a line; all classes of the head if left out."""
    harmful_classes: tuple[str, ...] | None = only(MAP, BLOCKS)
    """Network: the harmful classes to use, in the order of their labels; all if left out."""
    image_rows: int | None = only(MAP, BLOCKS)
    """Network: at most how many images of each part of MNIST, CIFAR-10 and tfds:NAME, or texts of newsgroups; all if left
    out."""
    text_length: int | None = only(MAP, BLOCKS)
    """Text network: tokens at which texts are cut, which saves time; as many as it takes if left out."""
    views: int | None = only(MAP, BLOCKS)
    """Network: views of each training image, the plain one and others at random: cropped and, but for digits, mirrored."""
    primary_heldout: float | None = only(MAP, BLOCKS)
    """Network: share of primary images that come in one part which no method sees, so that they judge it; none if left out."""
    cache: Path | None = only(MAP, BLOCKS)
    """Network: folder that keeps features between runs; cimm_jax/features in the user's cache if left out."""
    strict: Flag = only(MAP, BLOCKS, default=False)
    """Network: refuse images that cannot be decoded, which are skipped and counted otherwise."""

    @property
    def source(self) -> Source:
        """Where it comes from; raises `InputError` for a source that lacks something."""
        if _are_files(self):
            return self.feature_source(self.primary, self.harmful, reserved=self.reserve)
        if self.model is None:
            data = self.data or "digits"
            return DataSource(data, self.data_dir, self.primary, self.harmful, reserved=self.reserve)
        weights, primary, harmful = network_weights(self.weights, self.model), self.primary, self.harmful
        if weights is None or primary is None or harmful is None:
            given = {"weights": weights, "primary": primary, "harmful": harmful}
            missing = next(name for name, value in given.items() if value is None)
            command = type(self).__name__.lower()
            raise InputError(f"{missing}: is needed with --model {self.model}; see cimm {command} --help")
        return NetworkSource(
            self.model,
            weights,
            primary,
            harmful,
            primary_classes=self.primary_classes or (),
            harmful_classes=self.harmful_classes or (),
            image_rows=self.image_rows,
            text_length=self.text_length,
            views=1 if self.views is None else self.views,
            strict=self.strict,
            reserved=self.reserve,
            primary_heldout=self.primary_heldout or 0.0,
        )


@dataclass(frozen=True)
class Immunize(EraseSettings, PencilSettings, SubjectSettings, DeviceSettings, Common):
    """Immunize a linear extractor, or the features of a network, on one pair of tasks, and judge it by Definition 3.1."""

    harmful_too: Annotated[tuple[str, ...] | None, _help(HARMFUL_TOO)] = only(FEATURES, MAP)
    method: Annotated[str, _help(f"{_listed((*method_names(), OWN))}.")] = "algorithm1"
    steps: int | None = None
    """Optimizer steps; 300 if left out. The closed form makes one. With --train-from, instead of --epochs; with --extractor,
    800 if left out."""
    batch_size: Annotated[int | None, _help(f"{BATCH} With --train-from the method's own, {BATCH_ROWS} for most.")] = (
        None
    )
    hessian: Annotated[Literal["data", "batch"] | None, _help(f"{HESSIAN} data if left out.")] = only(
        DATA, FEATURES, MAP
    )
    step_length: Annotated[float | None, _help(STEP_LENGTH)] = only(DATA, FEATURES, MAP)
    lambda_primary: float | None = None
    """Weight of the primary regularizer; balanced if left out."""
    lambda_harmful: float | None = None
    """Weight of the harmful regularizer; balanced if left out."""
    resamples: int | None = None
    """Bootstrap resamples for the intervals; 200 for small data, 20 for large, none for huge data and networks if left out."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Experiment trackers that are shown the finished run: TensorBoard, in the run's folder, or Weights & Biases."""
    harmful_batch_size: int | None = only(*_TRAINED)
    """With --train-from, --extractor: rows of the harmful task a step; the method's own, or as many as of the primary one."""
    extractor: Literal["residual"] | None = only(EXTRACTOR)
    """Own features: train a small extractor behind them that is not linear, residual blocks that begin as the identity, instead
    of making a linear map; with best_response, hsic and others that train blocks."""
    train_from: str | None = only(BLOCKS)
    """Network: train its blocks from this one on, such as layer3.1, behind the frozen others; a linear map if left out.
    Closed forms are learned by them."""
    epochs: int | None = only(*_TRAINED)
    """With --train-from, --extractor: times through the longer data set; 2, or the method's own steps, if left out."""
    learning_rate: float | None = only(*_TRAINED)
    """With --train-from, --extractor: the highest rate of SGD with momentum; 1e-3, or the method's own, if left out."""
    distillation: float | None = only(*_TRAINED)
    """With --train-from, --extractor: weight of the distance from published outputs; the method's own, or 0, if left out."""
    heads: tuple[Literal["linear", "unscaled", "kernel", "whitened"], ...] | None = None
    """best_response: heads in closed form that must not read anything; linear and kernel if left out."""
    fine_tuning_steps: int | None = only(*_TRAINED)
    """best_response and sophon, where blocks are trained: steps that an attacker makes before training looks; none, or
    4 of sophon, if left out."""
    fine_tuning_images: int | None = only(*_TRAINED)
    """best_response and sophon, where blocks are trained: rows of a batch that this attacker has; half of it if left out."""
    fine_tuning_goal: Literal["explained", "likelihood"] | None = only(*_TRAINED)
    """best_response, with --train-from, --extractor: what this attacker wants; "likelihood" is lowered as sophon has it."""
    share: float | None = only(*_TRAINED)
    """encoderlock: share of the trained weights that move, those that matter to the harmful task alone; 0.01 if left out."""
    shrink: float | None = only(*_TRAINED)
    """undo: share of every trained weight that noise replaces in the middle of training; 0.6 if left out."""
    noise: float | None = only(*_TRAINED)
    """undo: size of that noise, in fresh weights; 0.1 if left out."""
    primary_accuracy: float | None = only(*_TRAINED)
    """With --train-from, --extractor: to be kept on a fifth of the primary rows, not trained on; sets the weights."""
    strength: float | None = only(*_TRAINED)
    """With --train-from, --extractor: length of a balanced penalty's first gradient over the loss's; 1 if left out."""
    label_smoothing: float | None = only(*_TRAINED)
    """With --train-from, --extractor: share of a primary target that goes to all classes alike; 0 if left out."""

    kinds: ClassVar[tuple[str, ...]] = (DATA, FEATURES, EXTRACTOR, MAP, BLOCKS)

    @property
    def source(self) -> Source:
        """With the further harmful tasks; raises `InputError` also for one that is given twice, or that is no place."""
        source = super().source
        if isinstance(source, FeatureSource):
            source = replace(source, extractor=self.extractor)
        if not self.harmful_too or isinstance(source, DataSource):
            return source
        given = [self.harmful, *self.harmful_too]
        if repeated := [task for number, task in enumerate(given) if task in given[:number]]:
            raise InputError(f"harmful_too: {repeated[0]} is given twice; name each harmful task once")
        if isinstance(source, NetworkSource):
            if self.harmful_classes:
                raise InputError("harmful_classes: of several harmful tasks all classes are blocked; leave it out")
            return replace(source, harmful_too=self.harmful_too)
        with naming("harmful_too", "harmful"):
            others = [self.feature_source(self.primary, task) for task in self.harmful_too]
        return replace(source, harmful_too=tuple(other.harmful for other in others))

    @property
    def kind(self) -> str:
        """What is made."""
        if self.model is None:
            of_files = FEATURES if self.extractor is None else EXTRACTOR
            return of_files if _are_files(self) else DATA
        return MAP if self.train_from is None else BLOCKS

    def build(self) -> Method:
        """The method; raises `InputError` for a setting that it does not have, or one out of range."""
        own = (
            *(
                "lambda_primary",
                "lambda_harmful",
                "heads",
                "fine_tuning_steps",
                "fine_tuning_images",
                "fine_tuning_goal",
            ),
            *("share", "shrink", "noise"),
        )
        given = {name: value for name in own if (value := getattr(self, name)) is not None}
        given |= self.pencil_settings() | self.erase_settings()
        defaults = _defaults(self.step_length, [self.method])
        with naming("no_rotate", "rotate"):
            return build_methods([self.method], {**given, **_hessian(self.hessian)}, defaults)[self.method]


@dataclass(frozen=True)
class Sweep(EraseSettings, PencilSettings, DeviceSettings, Common):
    """Immunize all 90 ordered pairs of digits with several methods and seeds at once. An interrupted sweep continues."""

    data: Annotated[
        str, _help(f"Data set with digits: {_listed(known.name for known in DATA_SETS if known.digits is not None)}.")
    ] = "digits"
    data_dir: Annotated[Path | None, _help(DATA_DIR)] = None
    kind: Annotated[
        str,
        _help(
            f"Tasks: {_listed(kind.value for kind in DigitKind)}: images of one digit, a digit against the next one, or a "
            "digit against the others."
        ),
    ] = "single"
    methods: Annotated[tuple[str, ...], _help(f"Methods to compare, of {_listed((*method_names(), OWN))}.")] = tuple(
        BY_NAME
    )
    seeds: int = 1
    """Seeds per pair and method."""
    steps: int = 100
    """Optimizer steps."""
    batch_size: Annotated[int | None, _help(BATCH)] = None
    hessian: Annotated[Literal["data", "batch"], _help(f"{HESSIAN} The batch's are far faster for MNIST.")] = "data"
    step_length: Annotated[float | None, _help(STEP_LENGTH)] = None
    rows: int | None = None
    """Training rows per digit; as many as every digit has if left out."""
    heldout_rows: int | None = None
    """Held-out rows per digit; as many as every digit has if left out."""
    pairs_at_once: int | None = None
    """Pairs worked on at once, which does not change the result; as many as memory allows if left out."""

    def build(self) -> dict[str, Method]:
        """The methods by name; raises `InputError` as `methods.build_methods`."""
        hessian = _hessian(self.hessian if self.hessian == "batch" else None)
        with naming("methods", "method"), naming("no_rotate", "rotate"):
            return build_methods(
                self.methods,
                {**self.pencil_settings(), **self.erase_settings(), **hessian},
                _defaults(self.step_length, self.methods),
            )


@dataclass(frozen=True)
class Diagnose(SubjectSettings, DeviceSettings, Common):
    """Say whether a pair of tasks can be immunized at all, what a budget buys, and why.

    Of a network, also what its outputs alone give an attacker. Nothing is trained.
    """

    budgets: tuple[str, ...] = ("1", "10", "100", "keep")
    """Condition numbers allowed to the primary task; keep is its own."""
    top_k: int = 10
    """Leading directions that the alignment looks at."""
    ridge: float | None = None
    """Ridge relative to the mean eigenvalue of K_P; chosen on held-out primary rows if left out."""
    rtol: float | None = None
    """Relative tolerance of the ranks; the rounding level if left out."""
    horizon: int = 1000
    """Steps of gradient descent after which the harmful loss is looked at."""
    primary_no_slower_at: tuple[int, ...] = (10, 100, 1000)
    """Numbers of steps at which the primary task must be no slower than undefended."""

    kinds: ClassVar[tuple[str, ...]] = (DATA, FEATURES, MAP)

    @property
    def kind(self) -> str:
        """What is diagnosed."""
        if self.model is None:
            return FEATURES if _are_files(self) else DATA
        return MAP


@dataclass(frozen=True)
class Attack(EraseSettings, PencilSettings, FeatureSettings, DeviceSettings, Common):
    """Attack immunized extractors, and the undefended one alike, with a sweep of optimizers, rates and adaptive attackers."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders of cimm immunize whose extractors to attack, on their own data; without any, --methods immunize --data first."""
    data: DataName = only(FRESH)
    data_dir: Annotated[Path | None, _help(DATA_DIR)] = only(FRESH, RUNS_OF_DATA)
    primary: Annotated[str | None, _help(f"{PRIMARY} {FEATURE_FILES} {_elsewhere('primary images')}")] = only(*_PLACED)
    harmful: Annotated[str | None, _help(f"{HARMFUL} {FEATURE_FILES} {_elsewhere('harmful images')}")] = only(*_PLACED)
    model: Annotated[
        str | None, _help(f"{_elsewhere('checkpoint folder or FILE.py:NAME')} A file is run only if it is given here.")
    ] = only(RUNS_OF_NETWORKS)
    weights: Annotated[Path | None, _help(_elsewhere("weights"))] = only(RUNS_OF_NETWORKS)
    benign: str | None = only(FRESH, FRESH_FEATURES, RUNS_OF_DATA, RUNS_OF_FEATURES)
    """A digit task that neither side trained on; by default, the first two digits that neither names. Or a file of own
    features."""
    rows: int | None = only(FRESH)
    """Rows a side of each digit task; all of them if left out."""
    methods: Annotated[
        tuple[str, ...] | None,
        _help(
            f"Methods to immunize with, of {_listed((*method_names(), OWN))}; all of the house but {_listed(REMOVING)} if left "
            f"out. Those look at labels, and so do {' and '.join(PRESETS)}."
        ),
    ] = only(FRESH, FRESH_FEATURES)
    immunization_steps: int | None = only(FRESH, FRESH_FEATURES)
    """Optimizer steps of the methods that are not closed forms; 300 if left out."""
    batch_size: Annotated[int | None, _help(BATCH)] = only(FRESH, FRESH_FEATURES)
    hessian: Annotated[Literal["data", "batch"] | None, _help(f"{HESSIAN} data if left out.")] = only(
        FRESH, FRESH_FEATURES
    )
    step_length: Annotated[float | None, _help(STEP_LENGTH)] = only(FRESH, FRESH_FEATURES)
    cache: Path | None = only(RUNS_OF_FEATURES, RUNS_OF_NETWORKS)
    """Folder that keeps a network's features, or an extractor's outputs, between runs; cimm_jax/features in the user's cache if
    left out."""
    attackers: Annotated[
        tuple[str, ...] | None,
        _help(
            f"Attackers: optimizers of optax by name, {', '.join(solver_names())} or {OWN}, alone or after one of "
            f"{', '.join(PREPARATIONS)} "
            f'and a +, as in "whiten + adam"; if left out, the standard ones: {", ".join(STANDARD)}.'
        ),
    ] = only(SWEEP)
    attack_steps: int | None = only(SWEEP)
    """Steps of each attack; 1000 if left out."""
    rates: int | None = only(SWEEP)
    """Learning rates that each attacker with one is tried at; 9 if left out."""
    attack_rates: tuple[float, ...] | None = only(SWEEP)
    """The learning rates themselves, instead of their number."""
    schedules: Annotated[
        tuple[str, ...] | None, _help(f"Courses of the learning rate: {_listed(SCHEDULES)}; constant if left out.")
    ] = only(SWEEP)
    seeds: int | None = None
    """Seeds of each attack that uses randomness, 5 if left out; of --ladder, draws of the attackers' images, 3 if left out."""
    loss: Literal["squared", "logistic", "softmax"] | None = only(SWEEP)
    """The attackers' loss, squared if left out; logistic needs classes, softmax more than two of them."""
    harmful_only: Flag = only(SWEEP, default=False)
    """Attack the harmful task alone and leave out what the others pay; far quicker where the primary task has many classes."""
    ladder: Flag = False
    """Instead of the sweep of linear probes: every family of attackers, rung by rung. Linear probes by gradients and by any
    means, nonlinear heads, heads on every layer, fine-tuning; on the same few images each, against random weights too."""
    images_a_class: tuple[int, ...] | None = only(LADDER)
    """Images of each harmful class that attackers have, each number a budget, all of them the last; 5, 20, 100 if left out."""
    judged: int | None = only(LADDER)
    """Held-out images that judge the attackers, at most; 1000 if left out."""
    layers: tuple[str, ...] | None = only(LADDER)
    """Layers of a network whose outputs heads are put on, such as layer3.0; all if left out."""
    rungs: Annotated[
        tuple[int, ...] | None,
        _help(f"Rungs to climb: {_listed(f'{rung.number} ({rung.name})' for rung in RUNGS)}; all if left out."),
    ] = only(LADDER)
    tuning_steps: int | None = only(LADDER)
    """Steps of those who fine-tune; 40 if left out."""
    primary_alone: Path | None = only(LADDER)
    """Weights of the same network trained on the primary task alone, to attack as well: what the primary images are worth."""
    with_defences_images: Flag = only(LADDER, default=False)
    """Attackers have the harmful images of the defences, too, beside those that --reserve kept from them."""

    kinds: ClassVar[tuple[str, ...]] = (
        *(FRESH, FRESH_FEATURES),
        *(RUNS_OF_DATA, RUNS_OF_FEATURES, RUNS_OF_NETWORKS),
        *(SWEEP, LADDER),
    )

    @property
    def source(self) -> Source:
        """Where the tasks come from if no runs are given; raises `InputError` as `feature_source`."""
        if _are_files(self):
            return self.feature_source(self.primary, self.harmful, benign=self.benign)
        return DataSource(self.data or "digits", self.data_dir, self.primary, self.harmful, self.benign, self.rows)

    def kind_of(self, source: Source) -> str:
        """What is attacked."""
        if isinstance(source, NetworkSource):
            return RUNS_OF_NETWORKS
        if isinstance(source, FeatureSource):
            return RUNS_OF_FEATURES if self.runs else FRESH_FEATURES
        return RUNS_OF_DATA if self.runs else FRESH

    def build(self) -> dict[str, Method]:
        """The methods by name; raises `InputError` as `methods.build_methods`."""
        names = (*BY_NAME, *PRESETS) if self.methods is None else self.methods
        given = {**self.pencil_settings(), **self.erase_settings(), **_hessian(self.hessian)}
        with naming("methods", "method"), naming("no_rotate", "rotate"):
            return build_methods(names, given, _defaults(self.step_length, names))


@dataclass(frozen=True)
class List:
    """List every method, attacker, head, data set and network that can be asked for by name, also those of other packages."""

    what: tyro.conf.Positional[tuple[Literal["methods", "attackers", "heads", "data", "networks"], ...]] = ()
    """What to list; all if left out."""
    json: Flag = False
    """Print JSON: what each is, by kind and name."""


@dataclass(frozen=True)
class Export:
    """Make a folder of a run of cimm immunize that a model hub takes: weights, their settings, and a model card."""

    run: tyro.conf.Positional[Path | None] = None
    """Folder of cimm immunize."""
    to: Path | None = None
    """The folder, which must be new or empty."""
    head: Path | None = None
    """Own features: your primary head, a safetensors file with one weight (outputs, features) and perhaps its bias, such as
    fc.weight and fc.bias; it absorbs the map, so that its outputs stay what they were."""
    attacks: tuple[Path, ...] = ()
    """Folders of cimm attack, with or without --ladder, on this run, which the model card then shows too."""


@dataclass(frozen=True)
class Report(Common):
    """Show finished runs on one HTML page that needs no network, with a model card. Nothing is computed again."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders that cimm attack, immunize, sweep or diagnose wrote, in the order to show them."""
    out: Path = Path("runs/report")
    """Folder for report.html, model-card.md and results.json; not that of a run."""
    tables: Path | None = None
    """Folder for every table of the runs as CSV, numbers in full, and as Markdown."""


@dataclass(frozen=True)
class Reproduce:
    """Reproduce a table or figure of the paper beside its published numbers. An interrupted table continues."""

    what: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(
            metavar="WHAT",
            help="table1 (House Prices), table2 (MNIST digits), table3 (networks), figure1 (convergence), figure2 and figure3 "
            "(table2 and table3, drawn).",
        ),
    ] = ""
    data_dir: Path | None = None
    """Folder that holds house_prices/ and mnist/, or what the configuration of table3 names."""
    config: str | None = None
    """Name of a configuration of table3, such as lite0_cars; one that there is not lists those that there are. No file."""
    seeds: int | None = None
    """Seeds; 3 if left out (table3: 1)."""
    rows: int | None = None
    """Images a digit (table2; all if left out) or a side of a task (figure1)."""
    epochs: int | None = None
    """Epochs of table2; 30 if left out."""
    runs: Path | None = None
    """The folder of table2 or table3 that figure2 or figure3 draws; runs/table2 or runs/table3 if left out."""
    seed: int = 0
    """First seed."""
    out: Path | None = None
    """Folder for results.json and everything else that is written; runs/ and the name if left out."""
    json: Flag = False
    """Print results.json instead of tables."""


def _are_files(settings: "SubjectSettings | Attack") -> bool:
    """Whether tasks are files of own features: no data set and no network is named, and a task is no digit task."""
    if settings.data is not None or settings.model is not None:
        return False
    return any(text is not None and _is_place(text) for text in (settings.primary, settings.harmful))


def network_weights(weights: Path | None, model: str | None) -> Path | None:
    """The weights that were given, of a folder its own; or else those of a checkpoint folder, or of an installed package.

    Raises:
      InputError: if there are none there.
    """
    if weights is not None:
        return weights_of(weights) if weights.is_dir() else weights
    if model in PACKAGED:
        return packaged_weights(model)
    if model is None or (folder := checkpoint_folder(model)) is None:
        return None
    return weights_of(folder)


def _is_place(text: str) -> bool:
    """Whether a task is a path; a word without a dot or a folder's mark that names nothing is a digit task, written wrongly."""
    return not is_digit_task(text) and ("." in text or os.sep in text or os.path.exists(text))


def parse_budget(text: str) -> float | str:
    """A budget as it is written: a number, or "keep"; raises `InputError` for anything else."""
    if text == "keep":
        return text
    try:
        budget = float(text)
    except ValueError as error:
        raise InputError(f'budget: needs a number or "keep", got {text!r}') from error
    check_budget(budget)
    return budget


def _hessian(rows: str | None) -> dict[str, Any]:
    return {} if rows is None else {"hessian": HessianFrom.BATCH if rows == "batch" else HessianFrom.DATA}


def _defaults(step_length: float | None, names: Sequence[str]) -> dict[str, Any]:
    """The optimizer of the methods that have one; a step length that none of them would take is refused."""
    if step_length is not None and not any(
        "optimizer" in inspect.signature(by_name(name)).parameters for name in names
    ):
        raise InputError(f"step_length: a closed form takes no steps, and {' and '.join(names)} is one; leave it out")
    length = DEFAULT_LEARNING_RATE if step_length is None else step_length
    if not 0 < length < math.inf:
        raise InputError(f"step_length: needs a positive finite number, got {length}")
    return {"optimizer": default_optimizer(length)}
