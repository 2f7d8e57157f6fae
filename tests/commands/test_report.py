"""`cimm report`: files, bad input, and the page in a real browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
from matplotlib.image import imread
from page_samples import COMMANDS, EXTRACTORS, Page, command_of, results_of, sample_runs, without_output

from cimm_jax import cli
from cimm_jax.commands.report import command_line

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr"),
)
PHONE = "--window-size=390,844"


@pytest.fixture
def folders():
    return sample_runs()


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr("cimm_jax.report.page_figures._svg", lambda *_: b"<svg/>")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    assert cli.main(["report", *(str(sample_runs()[name]) for name in ("attack", "diagnose")), "--out", str(out)]) == 0
    return out


def test_it_writes_page_card_and_results_and_leaves_the_runs_alone(tmp_path, folders, capsys, undrawn):
    before = {path: path.read_bytes() for folder in folders.values() for path in folder.iterdir()}
    out = tmp_path / "new" / "report"
    assert cli.main(["report", *map(str, folders.values()), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"report.html", "model-card.md", "results.json"}
    assert before == {path: path.read_bytes() for folder in folders.values() for path in folder.iterdir()}
    printed = capsys.readouterr().out
    assert "Attack on digits" in printed
    assert str(out / "report.html") in printed


def test_json_is_the_file_and_holds_claims_manifests_and_paths(tmp_path, folders, capsys, undrawn):
    assert cli.main(["report", str(folders["attack"]), "--out", str(tmp_path), "--json", "--seed", "3"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results == json.loads((tmp_path / "results.json").read_text())
    assert results["command"] == "report"
    assert results["settings"]["seed"] == 3
    assert results["files"]["page"] == str(tmp_path / "report.html")
    run = results["runs"][0]
    assert [claim["extractor"] for claim in run["claims"]] == list(EXTRACTORS[1:])
    assert {"attacker", "adaptive", "steps", "left"} <= run["claims"][0]["broken_by"][0].keys()
    original = json.loads((folders["attack"] / "results.json").read_text())
    assert all(run[key] == original[key] for key in ("settings", "versions", "data_sha256"))


def test_a_second_report_replaces_the_first(tmp_path, folders, undrawn):
    for command, shown in (("attack", "Attack on"), ("diagnose", "Diagnosis of")):
        assert cli.main(["report", str(folders[command]), "--out", str(tmp_path)]) == 0
        assert f"<h2>{shown} digits" in (tmp_path / "report.html").read_text()


def test_the_default_folder_is_not_that_of_runs():
    assert cli.Report().out != cli.Attack().out


def damaged(tmp_path, kind):
    """A run folder that is broken in one way."""
    folder = tmp_path / kind
    folder.mkdir()
    results = results_of("attack")
    if kind == "schema":
        results["schema"] = 999
    elif kind == "foreign":
        results = {"command": "other"}
    elif kind == "report":
        results["command"] = "report"
    elif kind == "unknown":
        results["command"] = "<unknown>"
    elif kind == "incomplete":
        del results["tasks"]["harmful"]["pencil"]["adam"]["steps"]
    elif kind == "no_tasks":
        del results["tasks"]
    elif kind == "wrong_type":
        results["settings"] = []
    if kind != "missing":
        text = json.dumps(results)
        (folder / "results.json").write_text(text[:-20] if kind == "cut" else text)
    return folder


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "cannot be read"),
        ("cut", "is damaged"),
        ("schema", "layout 999"),
        ("foreign", "was not written by cimm"),
        ("report", "written by cimm report"),
        ("unknown", "written by cimm <unknown>"),
        ("incomplete", "damaged or incomplete"),
        ("no_tasks", "'tasks'"),
        ("wrong_type", "damaged or incomplete"),
    ],
)
def test_a_bad_run_is_named_in_one_line_and_nothing_is_written(tmp_path, folders, capsys, undrawn, kind, said):
    folder = damaged(tmp_path, kind)
    out = tmp_path / "out"
    capsys.readouterr()
    assert cli.main(["report", str(folders["attack"]), str(folder), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert said in error
    assert str(folder) in error
    assert not out.exists()


def test_no_runs_is_bad_input(tmp_path, capsys):
    assert cli.main(["report", "--out", str(tmp_path / "out")]) == 2
    assert "runs: none given" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_is_never_overwritten(folders, tmp_path, capsys):
    before = (folders["attack"] / "results.json").read_bytes()
    assert cli.main(["report", str(folders["diagnose"]), "--out", str(folders["attack"])]) == 2
    assert "--out" in capsys.readouterr().err
    assert (folders["attack"] / "results.json").read_bytes() == before
    assert not (folders["attack"] / "report.html").exists()
    (tmp_path / "results.json").write_text("not ours")
    assert cli.main(["report", str(folders["diagnose"]), "--out", str(tmp_path)]) == 2
    assert (tmp_path / "results.json").read_text() == "not ours"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_shown_asks_for_the_same_run(command):
    assert command_of(command_line(results_of(command))) == without_output(COMMANDS[command])


def test_the_runs_attacked_and_options_with_spaces_are_part_of_the_command_line():
    results = results_of("attack")
    results["settings"].update(runs=["runs/a b"], attackers=["whiten + adam"])
    shown = command_of(command_line(results))
    assert shown.runs == (Path("runs/a b"),)
    assert shown.attackers == ("whiten + adam",)


def browse(tmp_path, page, *flags):
    """Standard output and console lines of a headless browser with a fresh profile."""
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


PROBE = """<script>addEventListener("load", () => {
  const root = document.documentElement, pictures = [...document.images];
  root.dataset.overflow = root.scrollWidth - root.clientWidth;
  root.dataset.drawn = pictures.filter(picture => picture.complete && picture.naturalWidth > 0).length;
  root.dataset.dark = pictures.filter(picture => picture.currentSrc !== picture.src).length;
  root.dataset.scrolling = [...document.querySelectorAll(".scroll")].filter(box => box.scrollWidth > box.clientWidth).length;
  const cell = document.querySelector("tbody th[scope=row]"), left = () => cell.getBoundingClientRect().left, before = left();
  cell.closest(".scroll").scrollLeft = 50;
  root.dataset.moved = Math.abs(left() - before);
  console.error("probe");
});</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(("scheme", "setting"), [("light", 1), ("dark", 0)])
def test_in_a_browser(written, tmp_path, scheme, setting):
    page, setting = written / "report.html", f"--blink-settings=preferredColorScheme={setting}"
    shot = tmp_path / "shot.png"
    _, console = browse(tmp_path, page, setting, PHONE, f"--screenshot={shot}")
    assert console == []
    pixels = imread(shot)[..., :3]
    assert pixels.shape[1] == 390
    assert (np.median(pixels) > 0.5) == (scheme == "light")
    assert pixels.std() > 0.05, "there is something to see"

    # The page allows no script, so what the browser made of it is asked of a copy that does.
    probed = written / "probed.html"
    html = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text())
    probed.write_text(html.replace("</body>", PROBE + "</body>"))
    dom, console = browse(tmp_path, probed, setting, PHONE, "--dump-dom")
    assert len(console) == 1, "what the console says is seen"
    found = {name: float(value) for name, value in re.findall(r'data-(\w+)="([\d.]+)"', dom[:1000])}
    pictures = len(Page(page.read_text()).attributes("alt"))
    assert found["overflow"] == 0, "the page itself does not scroll sideways"
    assert found["scrolling"] > 0, "wide tables do"
    assert found["moved"] < 1, "and their first column stays"
    assert found["drawn"] == pictures
    assert found["dark"] == (pictures if scheme == "dark" else 0)
    shown = Page(re.sub(r"<script>.*?</script>", "", dom, flags=re.DOTALL))
    for text in ("Attack on digits", "Broken by", "slows the best attacker", "Model card fragment"):
        assert text in shown.text


@pytest.mark.slow
def test_real_runs_of_every_command_are_shown(tmp_path):
    commands = (
        [
            "attack",
            "--rows",
            "20",
            "--attackers",
            "line_search",
            "sgd",
            "newton",
            "--methods",
            "pencil",
            "--rates",
            "2",
        ],
        ["immunize", "--steps", "3", "--resamples", "20"],
        ["diagnose"],
        ["sweep", "--steps", "1", "--rows", "12", "--heldout-rows", "12"],
    )
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for arguments in commands:
            assert cli.main([*arguments, "--out", str(tmp_path / arguments[0])]) == 0
        folders = [str(tmp_path / command) for command, *_ in commands]
        assert cli.main(["report", *folders, "--out", str(tmp_path / "report")]) == 0
    shown = Page((tmp_path / "report" / "report.html").read_text())
    assert len([text for level, text in shown.headings if level == 2]) == len(commands) + 1
