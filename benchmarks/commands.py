"""What the README's commands take: wall clock, processor time and memory, of a first run and of a second.

    python -m benchmarks.commands [--data-dir DIR] [--only WORD ...] [--at-most SECONDS] [--out DIR]

The commands are read from README.md, so that the table is of what stands there. Each runs as a process of its own; the first
time with an empty cache ($XDG_CACHE_HOME/cimm_jax: compiled programs, features, activations), again with what the first left,
into another folder. DIR is the data folder of `cimm reproduce` (house_prices, mnist, ..., weights); without it, commands
that need data, or runs of such, are left out. --only takes the commands that contain a word, and those whose runs they read;
the table has what a former run left in OUT of the others as well.

Checked: each exits with 0 and writes results.json or the page that it promises.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cimm_jax.files import output_folder, write_json
from cimm_jax.progress import progress_bar
from cimm_jax.views.render.terminal import print_table

README = Path(__file__).parents[1] / "README.md"
OWN = {"kept.npz": range(5), "blocked.npz": range(5, 10)}
"""Features of one's own, and which digits they are."""

PLACES = {
    "house_prices": {"DIR": "house_prices"},
    "mnist": {"DIR": "mnist"},
    "resnet20_cifar10": {
        "FILE": "weights/resnet20_cifar10.safetensors",
        "CIFAR": "cifar10/cifar10_subset.npz",
        "MNIST": "mnist",
    },
    "efficientnet_lite0": {
        "FILE": "weights/efficientnet_lite0_imagenet.safetensors",
        "--primary DIR": "--primary imagenet1k_sample",
        "--harmful DIR": "--harmful cars196",
    },
    "table1": {"DIR_WITH_BOTH": "."},
}
"""What stands for data in a command that has the key as a word, and where that is in the data folder."""


class Spent(NamedTuple):
    """By one process.

    Attributes:
      wall: seconds.
      processor: seconds, of all its threads.
      gibibytes: the most that it held.
      done: whether it ended by itself, in time.
    """

    wall: float
    processor: float
    gibibytes: float
    done: bool

    def __str__(self) -> str:
        return f"{'' if self.done else 'more than '}{self.wall:.0f} ({self.processor:.0f})"


class Timed(NamedTuple):
    """A command, run twice.

    Attributes:
      command: as it stands in the README.
      first: with an empty cache.
      second: with what the first left there.
    """

    command: str
    first: Spent
    second: Spent


def commands() -> list[str]:
    """The `cimm` commands of the README's blocks that immunize, attack, measure or show, without their comments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("cimm ")]


def with_data(command: str, data: Path | None) -> list[str] | None:
    """Its words with real paths in them; None if there are no such data."""
    for key, places in PLACES.items():
        if key in command.split():
            if data is None:
                return None
            for told, place in places.items():
                *flag, path = place.split()
                command = re.sub(rf"(?<!\S){told}(?!\S)", shlex.join([*flag, str(data / path)]), command)
    return shlex.split(command)


def planned(only: Sequence[str] | None, data: Path | None) -> dict[str, list[str]]:
    """Words by command, of those that contain a word and those that make the runs which these read, if there are data."""
    told = commands()
    made_by = {out: command for command in told if (out := _out(command.split()))}
    wanted = {command for command in told if not only or any(word in command for word in only)}
    for command in reversed(told):
        if command in wanted:
            wanted |= {made_by[word] for word in _read(command.split())}
    plan = {}
    for command in told:
        words = with_data(command, data)
        if command in wanted and words is not None and all(made_by[word] in plan for word in _read(words)):
            plan[command] = words
    return plan


def _out(words: Sequence[str]) -> str | None:
    return words[words.index("--out") + 1] if "--out" in words else None


def _read(words: Sequence[str]) -> list[str]:
    """Runs that a command reads."""
    return [word for word in words[2:] if word.startswith("runs/") and word != _out(words)]


def write_own(folder: Path) -> None:
    """The files of `OWN`."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    for name, classes in OWN.items():
        mine = np.isin(y, list(classes))
        np.savez(folder / name, x=x[mine], y=y[mine])


def run(words: Sequence[str], folder: Path, cache: Path, at_most: float) -> Spent:
    """One process; ends the program with what it said if it failed."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    log = folder / "log.txt"
    begun = time.perf_counter()
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "cimm_jax", *words[1:]], cwd=folder, env=environment, stdout=said, stderr=said
        )
        done = True
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if done and time.perf_counter() - begun > at_most:
                process.kill()
                done = False
            time.sleep(0.05)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if done and process.returncode:
        raise SystemExit(f"{shlex.join(words)}\nexits with {process.returncode}:\n{log.read_text()[-2000:]}")
    if done:
        _check_written(words, folder)
    return Spent(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20, done)


def _check_written(words: Sequence[str], folder: Path) -> None:
    out = folder / (_out(words) or "runs")
    wanted = "report.html" if words[1] == "report" else "results.json"
    if not any(out.rglob(wanted)):
        raise SystemExit(f"{shlex.join(words)}\nwrote no {wanted} into {out}")


def main() -> None:
    """Prints the table; with --out, also commands.json, whenever a command is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for a JSON file")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--at-most", type=float, default=1200.0)
    asked = parser.parse_args()
    data = asked.data_dir and asked.data_dir.resolve()
    plan = planned(asked.only, data)
    path = asked.out and output_folder(asked.out) / "commands.json"
    told = commands()
    found = {one.command: one for one in (kept(path) if path else ()) if one.command in told}
    with tempfile.TemporaryDirectory() as there, progress_bar("README's commands", 2 * len(plan)) as made:
        first, second, cache = (Path(there) / name for name in ("first", "second", "cache"))
        for folder in (first, second):
            folder.mkdir()
            write_own(folder)
        for number, (command, words) in enumerate(plan.items()):
            spent = []
            for folder in (first, second):
                spent.append(run(words, folder, cache, asked.at_most))
                made(2 * number + len(spent))
            found[command] = Timed(command, *spent)
            if path:
                keep(path, found.values())
    rows = [
        [one.command, str(one.first), str(one.second), one.second.processor / one.first.processor, one.first.gibibytes]
        for one in sorted(found.values(), key=lambda one: told.index(one.command))
    ]
    columns = ["command", "first, s (processor)", "again, s (processor)", "ratio of processor", "GiB at most"]
    print_table(columns, rows, title=f"README's commands, {os.cpu_count()} cores")
    if path:
        print(f"Figures: {path}")


def kept(path: Path) -> list[Timed]:
    """What a run before this one left there."""
    if not path.exists():
        return []
    return [
        Timed(one["command"], Spent(**one["first"]), Spent(**one["second"])) for one in json.loads(path.read_text())
    ]


def keep(path: Path, found: Iterable[Timed]) -> None:
    """Writes it for `kept`."""
    write_json(
        path,
        [{"command": one.command, "first": one.first._asdict(), "second": one.second._asdict()} for one in found],
    )


if __name__ == "__main__":
    main()
