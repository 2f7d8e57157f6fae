"""The command line `cimm`: what can be asked. What is done about it lives in `commands/`, loaded when it is asked for."""

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cimm_jax.errors import InputError
from cimm_jax.methods import BY_NAME


@dataclass(frozen=True)
class Common:
    """Settings of every command."""

    seed: int = 0
    """Seeds the primary heads and the batches."""
    out: Path = Path("runs/latest")
    """Folder for results.json and everything else that is written."""
    json: bool = False
    """Print results.json instead of tables."""


@dataclass(frozen=True)
class PencilSettings:
    """Settings of the method `pencil`."""

    budget: str | None = None
    """pencil: largest condition number of the primary task, or keep (the default): as it is."""
    objective: Literal["kappa", "signal"] | None = None
    """pencil: spend the budget on the condition number (the default, but for networks) or where the labels are."""
    horizon: int | None = None
    """pencil, objective signal: steps after which the harmful loss is looked at (1000)."""
    primary_no_slower_at: tuple[int, ...] | None = None
    """pencil, objective signal: numbers of steps at which the primary task must be no slower than undefended."""
    ridge: float | None = None
    """pencil: ridge relative to the mean eigenvalue of K_P; chosen on held-out primary rows if left out, but 1e-6 for a network
    under the objective signal."""
    rotate: bool = True
    """pencil: rotate at random, against optimizers that look at axes."""


@dataclass(frozen=True)
class DeepSettings:
    """Settings of a network whose features are immunized."""

    model: str | None = None
    """Network: resnet18, resnet34, resnet20_cifar10, resnet56_cifar10, vit_b16, vit_tiny, vit_mini_cifar10 or
    efficientnet_lite0; --primary and --harmful are then folders of images (train/CLASS/*.jpg and test/CLASS/*.jpg, or one image
    a class), MNIST's folder, an .npz file of CIFAR-10, or tfds:NAME, such as tfds:cars196 (tfds:NAME@DIR in another folder than
    $TFDS_DATA_DIR), prepared as ArrayRecord."""
    weights: Path | None = None
    """Network: its weights, a safetensors file."""
    primary_classes: tuple[str, ...] = ()
    """Network: the primary classes to use, by name, or a text file with a name a line; all classes of the head if left out."""
    harmful_classes: tuple[str, ...] = ()
    """Network: the harmful classes to use, in the order of their labels; all if left out."""
    image_rows: int | None = None
    """Network: at most how many images of each part of MNIST, CIFAR-10 and tfds:NAME; all if left out."""
    views: int = 1
    """Network: views of each training image, the plain one and others at random: cropped and, but for digits, mirrored."""
    cache: Path | None = None
    """Network: folder that keeps features between runs; cimm_jax/features in the user's cache if left out."""
    strict: bool = False
    """Network: refuse images that cannot be decoded, which are skipped and counted otherwise."""
    train_from: str | None = None
    """Network: train its blocks from this one on, such as layer3.1, behind the frozen others; a linear map if left out."""
    epochs: int | None = None
    """Network, with --train-from: times through the longer data set; 2 if left out."""
    strength: float | None = None
    """Network, with --train-from: length of a balanced penalty's first gradient over the primary loss's; 1 if left out."""
    label_smoothing: float | None = None
    """Network, with --train-from: share of a primary target that goes to all classes alike; 0 if left out."""


@dataclass(frozen=True)
class Immunize(DeepSettings, PencilSettings, Common):
    """Immunize a linear extractor, or the features of a network, on one pair of tasks, and judge it by Definition 3.1."""

    data: str = "digits"
    """Data set: digits (embedded), mnist or house_prices."""
    data_dir: Path | None = None
    """Folder with the data set's files; without it they are downloaded."""
    primary: str | None = None
    """Primary digit task: 3 (images of one digit), 0v1 (one digit against another), 3vrest. Default 0v1."""
    harmful: str | None = None
    """Harmful digit task, in the same form. Default 2v3."""
    method: str = "algorithm1"
    """algorithm1, ill_only, opt_kappa, imma or pencil."""
    steps: int = 300
    """Optimizer steps; the closed form makes one."""
    batch_size: int | None = None
    """Rows of each task per step; all of them if left out, 64 with --train-from."""
    learning_rate: float = 3e-3
    """Length of a step relative to the extractor's; with --train-from, the highest rate of SGD with momentum."""
    lambda_primary: float | None = None
    """Weight of the primary regularizer; balanced if left out."""
    lambda_harmful: float | None = None
    """Weight of the harmful regularizer; balanced if left out."""
    resamples: int | None = None
    """Bootstrap resamples for the intervals; 200 for small problems, 20 for large ones."""


@dataclass(frozen=True)
class Sweep(PencilSettings, Common):
    """Immunize all 90 ordered pairs of digits with several methods and seeds at once. An interrupted sweep continues."""

    data: str = "digits"
    """Data set with digits: digits (embedded) or mnist."""
    data_dir: Path | None = None
    """Folder with the data set's files; without it they are downloaded."""
    kind: str = "single"
    """Tasks: single (images of one digit), versus (a digit against the next one) or rest (a digit against the others)."""
    methods: tuple[str, ...] = tuple(BY_NAME)
    """Methods to compare."""
    seeds: int = 1
    """Seeds per pair and method."""
    steps: int = 100
    """Optimizer steps."""
    batch_size: int | None = None
    """Rows of each task per step; all of them if left out."""
    hessian: Literal["data", "batch"] = "data"
    """Rows whose Hessians the regularizers look at: all, or the batch, as in the released code; far faster for MNIST."""
    learning_rate: float = 3e-3
    """Length of a step relative to the extractor's."""
    rows: int | None = None
    """Training rows per digit; as many as every digit has if left out."""
    heldout_rows: int | None = None
    """Held-out rows per digit; as many as every digit has if left out."""
    pairs_at_once: int | None = None
    """Pairs worked on at once, which does not change the result; as many as memory allows if left out."""


@dataclass(frozen=True)
class Diagnose(Common):
    """Say whether a pair of tasks can be immunized at all, what a budget buys, and why. Nothing is trained."""

    data: str = "digits"
    """Data set: digits (embedded), mnist or house_prices."""
    data_dir: Path | None = None
    """Folder with the data set's files; without it they are downloaded."""
    primary: str | None = None
    """Primary digit task: 3 (images of one digit), 0v1 (one digit against another), 3vrest. Default 0v1."""
    harmful: str | None = None
    """Harmful digit task, in the same form. Default 2v3."""
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


@dataclass(frozen=True)
class Attack(PencilSettings, Common):
    """Attack immunized extractors, and the undefended one alike, with a sweep of optimizers, rates and adaptive attackers."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders of cimm immunize whose extractors to attack, on their own data; without any, --methods immunize --data first."""
    data: str = "digits"
    """Data set: digits (embedded), mnist or house_prices."""
    data_dir: Path | None = None
    """Folder with the data set's files; without it they are downloaded."""
    primary: str | None = None
    """Primary digit task: 3 (images of one digit), 0v1 (one digit against another), 3vrest. Default 0v1."""
    harmful: str | None = None
    """Harmful digit task, in the same form. Default 2v3."""
    benign: str | None = None
    """A digit task that neither side trained on; by default, the first two digits that neither names."""
    rows: int | None = None
    """Rows a side of each digit task; all of them if left out."""
    methods: tuple[str, ...] = (*BY_NAME, "pencil_signal", "pencil_no_slower")
    """Methods to immunize with; the last two spend the budget where the labels are."""
    immunization_steps: int = 300
    """Optimizer steps of the methods that are not closed forms."""
    batch_size: int | None = None
    """Rows of each task per step, whose Hessians those methods then look at, as the released code does; all if left out."""
    learning_rate: float = 3e-3
    """Length of a step relative to the extractor's, of those methods."""
    attackers: tuple[str, ...] = ()
    """Attackers: optimizers of optax by name, newton, normal equations, as in "whiten + adam"; standard ones if left out."""
    attack_steps: int = 1000
    """Steps of each attack."""
    rates: int = 9
    """Learning rates that each attacker with one is tried at."""
    attack_rates: tuple[float, ...] = ()
    """The learning rates themselves, instead of their number."""
    schedules: tuple[str, ...] = ("constant",)
    """Courses of the learning rate: constant, cosine, warmup."""
    seeds: int = 5
    """Seeds of each attack that uses randomness."""
    loss: Literal["squared", "logistic", "softmax"] = "squared"
    """The attackers' loss; logistic needs classes, softmax more than two of them."""
    harmful_only: bool = False
    """Attack the harmful task alone and leave out what the others pay; far quicker where the primary task has many classes."""


@dataclass(frozen=True)
class Report(Common):
    """Show finished runs on one HTML page that needs no network, with a model card. Nothing is computed again."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders that cimm attack, immunize, sweep or diagnose wrote, in the order to show them."""
    out: Path = Path("runs/report")
    """Folder for report.html, model-card.md and results.json; not that of a run."""


@dataclass(frozen=True)
class Reproduce:
    """Reproduce a table or figure of the paper beside its published numbers. An interrupted table continues."""

    what: tyro.conf.Positional[Literal["table1", "table2", "table3", "figure1", "figure2", "figure3"]]
    """table1 (House Prices), table2 (MNIST digits), table3 (networks), figure1 (convergence), figure2 and figure3 (table2 and
    table3, drawn)."""
    data_dir: Path | None = None
    """Folder that holds house_prices/ and mnist/, or what the configuration of table3 names."""
    config: str | None = None
    """Configuration of table3, such as lite0_cars."""
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
    json: bool = False
    """Print results.json instead of tables."""


Command = (
    Annotated[Attack, tyro.conf.subcommand("attack")]
    | Annotated[Diagnose, tyro.conf.subcommand("diagnose")]
    | Annotated[Immunize, tyro.conf.subcommand("immunize")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Sweep, tyro.conf.subcommand("sweep")]
)


RESUMED = "a sweep continues where it was when the same command is given again"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 2 for input that cannot be used, 130 for Ctrl-C."""
    command = tyro.cli(
        Command, prog="cimm", description="Model immunization: protect, and measure how much.", args=arguments
    )  # pyright: ignore
    try:
        _run(command)
    except InputError as error:
        print(f"cimm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"cimm: interrupted; {str(interrupt) or RESUMED}", file=sys.stderr)
        return 130
    return 0


def _run(command: Attack | Diagnose | Immunize | Report | Reproduce | Sweep) -> None:
    import jax

    # An application may choose its precision; condition numbers need this one.
    jax.config.update("jax_enable_x64", True)
    if isinstance(command, Attack):
        from cimm_jax.commands.attack import run_attack
        from cimm_jax.commands.deep_attack import are_deep, are_trained, run_deep_attack, run_trained_attack

        if are_trained(command.runs):
            run_trained_attack(command)
        else:
            (run_deep_attack if are_deep(command.runs) else run_attack)(command)
    elif isinstance(command, Diagnose):
        from cimm_jax.commands.diagnose import run_diagnose

        run_diagnose(command)
    elif isinstance(command, Immunize) and command.model is not None and command.train_from is not None:
        from cimm_jax.commands.deep_tail import run_deep_tail

        run_deep_tail(command)
    elif isinstance(command, Immunize) and command.model is not None:
        from cimm_jax.commands.deep_immunize import run_deep_immunize

        run_deep_immunize(command)
    elif isinstance(command, Immunize):
        from cimm_jax.commands.immunize import run_immunize

        for field in fields(DeepSettings):
            if getattr(command, field.name) != field.default:
                raise InputError(f"{field.name}: is a setting of a network; add --model, or leave it out")
        run_immunize(command)
    elif isinstance(command, Report):
        from cimm_jax.commands.report import run_report

        run_report(command)
    elif isinstance(command, Reproduce):
        from cimm_jax.commands.reproduce import run_reproduce

        run_reproduce(command)
    else:
        from cimm_jax.commands.sweep import run_sweep

        run_sweep(command)
