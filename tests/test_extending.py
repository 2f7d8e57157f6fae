"""A newcomer adds one of each kind to the package, in as few files as CONTRIBUTING says, and finds it everywhere."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cimm_jax

PACKAGE = Path(cimm_jax.__file__).parent

METHOD = '''
"""A method that stretches one direction."""

import jax.numpy as jnp

from cimm_jax.methods._pencil import pencil
from cimm_jax.methods.protocol import Method, reused

__all__ = ["stretched"]


@reused
def stretched(*, budget: float | str = 10.0) -> Method:
    """The closed form with another default."""
    return pencil(budget=budget)
'''

ATTACKER = '''
"""An attacker who guesses: the probe of the normal equations, halved."""

from cimm_jax.attacks.adaptive import normal_equations

__all__ = ["halving"]


def halving(**settings):
    """Solves, as those before did."""
    return normal_equations(**settings)
'''

DATA = '''
"""Digits once more, upside down."""

from cimm_jax.data.digits import load_digits_8x8

__all__ = ["load_flipped"]


def load_flipped(data_dir=None):
    """The embedded digits with their pixels in another order."""
    images = load_digits_8x8(None)
    return type(images)(images.train_x[:, ::-1].copy(), images.train_y, images.heldout_x[:, ::-1].copy(), images.heldout_y)
'''

NETWORK = '''
"""A network of one linear layer on images of 8x8 pixels."""

from cimm_jax.networks.linear import LinearConfig
from cimm_jax.networks.preprocess import Preprocess

__all__ = ["FLAT"]

FLAT = LinearConfig(inputs=192, features=6, classes=2, preprocess=Preprocess(8, (127.0,) * 3, (128.0,) * 3))
'''

MEASURE = '''
"""By how much the features' energy grew."""

import jax.numpy as jnp

__all__ = ["energy_growth"]


def energy_growth(extraction) -> float:
    """Harmful energy after over before."""
    after, before = (jnp.sum(pair.harmful.x**2) for pair in (extraction.after, extraction.before))
    return float(after / before)
'''

FILES = {
    "methods/_stretched.py": METHOD,
    "attacks/halving_probe.py": ATTACKER,
    "data/flipped.py": DATA,
    "networks/flat.py": NETWORK,
    "measures/energy.py": MEASURE,
}

LINES = {
    "methods/registry.py": [
        ("from cimm_jax.methods._pencil import", "from cimm_jax.methods._stretched import stretched\n{}"),
        ('    "pencil": pencil,\n', '{}    "stretched": stretched,\n'),
    ],
    "attacks/catalogue.py": [
        ("from cimm_jax.attacks.optimizers import", "from cimm_jax.attacks.halving_probe import halving\n{}"),
        ('{"newton": newton, ', '{}"halving": halving, '),
    ],
    "data/registry.py": [
        ("from cimm_jax.data.house_prices import", "from cimm_jax.data.flipped import load_flipped\n{}"),
        ("DATA_SETS = (\n", '{}    DataSet("flipped", "digits upside down", digits=load_flipped),\n'),
    ],
    "networks/registry.py": [("NETWORKS = {\n", '{}    "flat": "cimm_jax.networks.flat:FLAT",\n')],
    "measures/measured.py": [
        ("from cimm_jax.measures.excess import", "from cimm_jax.measures.energy import energy_growth\n{}"),
        ("    share: Share | None\n", "{}    energy: float\n"),
        ("            ratios=ratios[part],\n", "{}            energy=energy_growth(extraction),\n"),
    ],
    "views/tables.py": [
        ('    ("share of the limit",', '    ("energy growth", lambda of: Cell(f"{of.energy:.5g}")),\n{}')
    ],
}

RUN = """
import json, sys
from pathlib import Path
import numpy as np
from PIL import Image

out = Path(sys.argv[1])
from cimm_jax.commands.cli import main

def run(*words):
    assert main([str(word) for word in words]) == 0, words

import jax
jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)
for task in ("primary", "harmful"):
    for part in ("train", "test"):
        for name in ("a", "b"):
            folder = out / task / part / name
            folder.mkdir(parents=True)
            for number in range(6):
                Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(folder / f"{number}.png")
from cimm_jax.networks import build
from cimm_jax.networks.weights import export_weights
export_weights(build("flat", jax.random.key(0)), out / "flat.safetensors")

run("immunize", "--data", "flipped", "--method", "stretched", "--out", out / "mine")
run("attack", out / "mine", "--attackers", "halving", "line_search", "--attack-steps", 3, "--seeds", 1, "--out", out / "hit")
run("immunize", "--model", "flat", "--weights", out / "flat.safetensors", "--primary", out / "primary", "--harmful",
    out / "harmful", "--method", "stretched", "--cache", out / "cache", "--out", out / "net")
run("report", out / "mine", out / "hit", out / "net", "--out", out / "page")
"""


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the package with one of each added; returns what was printed, by command, and the folder of the runs."""
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(PACKAGE, root / "cimm_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in FILES.items():
        (root / "cimm_jax" / name).write_text(text.lstrip())
    for name, edits in LINES.items():
        path = root / "cimm_jax" / name
        text = path.read_text()
        for anchor, edit in edits:
            assert text.count(anchor) == 1, f"{name} has {anchor!r} {text.count(anchor)} times"
            text = text.replace(anchor, edit.replace("{}", anchor))
        path.write_text(text)
    (root / "run.py").write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200", "TF_CPP_MIN_LOG_LEVEL": "3"}

    def python(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    helps = {verb: python("-m", "cimm_jax", verb, "--help") for verb in ("immunize", "attack")}
    (root / "runs").mkdir()
    return helps, python("run.py", str(root / "runs")), root / "runs"


def test_help_lists_what_was_added(extended):
    helps, _, _ = extended
    assert {"stretched", "flipped", "flat"} <= set(" ".join(helps["immunize"].split()).replace(",", "").split())
    assert "halving" in helps["attack"]


def test_runs_use_what_was_added(extended):
    _, printed, runs = extended
    mine = json.loads((runs / "mine" / "results.json").read_text())
    assert (mine["method"], mine["source"]["data"]) == ("stretched", "flipped")
    hit = json.loads((runs / "hit" / "results.json").read_text())
    assert "halving" in hit["tasks"]["harmful"]["mine"]
    assert json.loads((runs / "net" / "results.json").read_text())["source"]["model"] == "flat"
    assert "stretched on flipped" in printed


def test_a_measure_is_in_the_terminal_the_results_the_page_and_the_card(extended):
    _, printed, runs = extended
    for name in ("mine", "net"):
        energy = json.loads((runs / name / "results.json").read_text())["measures"]["parts"]["train"]["energy"]
        assert energy > 0
        for text in (printed, *((runs / "page" / file).read_text() for file in ("report.html", "model-card.md"))):
            assert "energy growth" in text
            assert f"{energy:.5g}" in text


def test_the_page_shows_what_was_added(extended):
    page = (extended[2] / "page" / "report.html").read_text()
    for name in ("stretched", "flipped", "halving", "flat"):
        assert name in page
