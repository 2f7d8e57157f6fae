"""A method and an attacker of somebody's own, from a file and from a package that is installed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cimm_jax import plugins
from cimm_jax.commands import cli
from cimm_jax.runs.records import AttackRecord, ImmunizeRecord
from cimm_jax.runs.run_folder import read_record_of

pytestmark = pytest.mark.usefixtures("standard_promotion")

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "cimm_jax_easy"
FILE = EXAMPLE / "cimm_jax_easy.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The run of the example's method, and how it was asked for."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "_loaded", {})
        words = ["immunize", "--method", f"{FILE}:easy", "--ridge", "1e-3", "--resamples", "20", "--quiet"]
        assert cli.main([*words, "--out", str(folder)]) == 0
    return folder


def test_a_method_in_a_file_immunizes(made):
    record = read_record_of(made, ImmunizeRecord)
    assert record.method == f"{FILE}:easy"
    ratio = record.measures.parts["train"].ratios["PseudoInverse"]
    assert float(ratio.primary.kappa) == pytest.approx(1, rel=0.1) or float(ratio.primary_ratio) < 0.05
    assert len(record.manifest.versions[f"{FILE}:easy"]) == 64, "the file's checksum"


def test_an_attacker_in_a_file_attacks_it_alone_and_prepared(made, tmp_path, capsys):
    names = [f"{FILE}:heavy_ridge", f"whiten + {FILE}:heavy_ridge", "newton"]
    words = ["attack", str(made), "--attackers", *names, "--attack-steps", "3", "--seeds", "1", "--harmful-only"]
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    record = read_record_of(tmp_path, AttackRecord)
    assert list(record.budget.attackers) == names
    assert set(record.tasks["harmful"][made.name]) == set(names)
    assert f"{FILE}:heavy_ridge" in record.manifest.versions
    assert "heavy_ridge" in capsys.readouterr().out


OWN = """
from cimm_jax import methods

def fine():
    return methods.pencil()

def no_method():
    return 3

number = 4
"""


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (None, "fine", "FILE cannot be read (No such file or directory); give FILE.py:NAME"),
        (OWN, "nobody", "FILE has no 'nobody'; it has fine, no_method"),
        (OWN + "\nraise RuntimeError('not\\ntoday')", "fine", "FILE cannot be imported (RuntimeError: not)"),
        (OWN, "no_method", "FILE:no_method needs to return a cimm_jax.methods.Method, and returned int"),
        (
            OWN,
            "number",
            "FILE:number needs to be a function that returns a cimm_jax.methods.Method, and is int",
        ),
        ("def fine(a): pass", "fine", "FILE:fine cannot make a cimm_jax.methods.Method (TypeError: "),
        (OWN, "", "FILE has no ''"),
    ],
)
def test_bad_input_is_one_line_and_status_2_and_nothing_is_written(tmp_path, capsys, text, name, said):
    path = tmp_path / "own.py"
    if text is not None:
        path.write_text(text)
    for verb in (["immunize", "--method"], ["sweep", "--methods", "pencil"], ["attack", "--methods", "pencil"]):
        assert cli.main([*verb, f"{path}:{name}", "--out", str(tmp_path / "out")]) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith(f"cimm: --{verb[1].removeprefix('--')}: {said.replace('FILE', str(path), 1)}")
        assert (len(printed.err.splitlines()), printed.out) == (1, "")
    assert not (tmp_path / "out").exists()


def test_a_setting_that_an_own_method_lacks_is_refused(tmp_path, capsys):
    assert cli.main(["immunize", "--method", f"{FILE}:easy", "--budget", "3", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"cimm: --budget: is no setting of {FILE}:easy; leave it out\n"
    assert cli.main(["immunize", "--method", f"{FILE}:easy", "--ridge", "-1", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "cimm: --ridge: needs a positive number, got -1.0\n"


@pytest.mark.slow
def test_the_example_package_is_built_installed_and_found_and_a_broken_one_hurts_nobody(tmp_path):
    """As people do it: pip installs the folder, and the command knows its names."""
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    shutil.copytree(EXAMPLE, tmp_path / "source")  # setuptools builds where the source is
    subprocess.run([*pip, str(tmp_path / "source")], check=True, timeout=300)
    broken = target / "broken-1.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (broken / "entry_points.txt").write_text("[cimm_jax.methods]\nbroken = nowhere_to_be_found:method\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), *sys.path]), "COLUMNS": "200"}

    def cimm(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cimm_jax", *words]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    listed = cimm("list", "methods", "attackers", "--json")
    assert json.loads(listed.stdout)["methods"]["easy"].startswith("Makes the primary task as easy")
    assert json.loads(listed.stdout)["attackers"]["heavy_ridge"].startswith("An attacker who solves")
    assert [line for line in listed.stderr.splitlines() if line.startswith("cimm")] == [
        "cimm: warning: method: 'broken' of broken cannot be imported (ModuleNotFoundError: No module named "
        "'nowhere_to_be_found'); it is left out"
    ]
    assert "easy" in cimm("immunize", "--help").stdout
    done = cimm("immunize", "--method", "easy", "--resamples", "20", "--out", "run")
    assert done.returncode == 0, done.stderr
    record = read_record_of(tmp_path / "run", ImmunizeRecord)
    assert (record.method, record.manifest.versions["cimm_jax_easy"]) == ("easy", "0.1.0")
    done = cimm("attack", "run", "--attackers", "heavy_ridge", "--attack-steps", "3", "--seeds", "1", "--out", "hit")
    assert done.returncode == 0, done.stderr
    refused = cimm("immunize", "--method", "broken")
    assert refused.returncode == 2
    assert "'broken' of broken cannot be imported" in refused.stderr
