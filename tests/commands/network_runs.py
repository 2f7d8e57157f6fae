"""Commands on the network and the images that are small enough for tests."""

import contextlib
import io
from pathlib import Path

from cimm_jax.commands import cli

CUT = "layer3.0"


def immunize_map(inputs: Path, out: Path, *more: str, method: str = "pencil") -> int:
    """The exit status of `cimm immunize --model`."""
    paths = ["--primary", str(inputs / "primary"), "--harmful", str(inputs / "harmful")]
    model = ["--model", "small", "--weights", str(inputs / "small.safetensors"), "--cache", str(inputs / "cache")]
    return cli.main(["immunize", *model, *paths, "--method", method, *more, "--out", str(out)])


def immunize_blocks(inputs: Path, out: Path, *more: str, method: str = "algorithm1", train_from: str = CUT) -> int:
    """The same with --train-from."""
    training = ["--train-from", train_from, "--learning-rate", "0.01"]
    return immunize_map(inputs, out, *training, *more, method=method)


def printed(run, *arguments) -> str:
    """What a successful run prints."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert run(*arguments) == 0
    return shown.getvalue()
