"""`cimm report`: files, bad input, and the page in a real browser."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib.image import imread
from pages import Page, undrawn
from sample_records import attack_record, diagnose_record, one_of_each_command, report_record

from cimm_jax.commands import cli
from cimm_jax.errors import printable
from cimm_jax.runs.codec import encode
from cimm_jax.runs.records import AttackRecord, ReportRecord
from cimm_jax.runs.run_folder import read_record_of, write_record
from cimm_jax.views.registry import claims_of, part_of
from cimm_jax.views.render.table_folder import table_files
from cimm_jax.views.summary import summarise

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr"),
)
PHONE = "--window-size=390,844"


@pytest.fixture(scope="module", autouse=True)
def pictures():
    """Drawn whole."""


@pytest.fixture
def folders(tmp_path):
    """Run folders by command."""
    found = {}
    for record in one_of_each_command():
        found[record.manifest.command] = folder = tmp_path / "runs" / record.manifest.command
        folder.mkdir(parents=True)
        write_record(folder, record)
    return found


@pytest.fixture
def no_pictures():
    with undrawn():
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report that was made whole, with its pictures."""
    runs, out = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("report")
    for record in (attack_record(), diagnose_record()):
        (runs / record.manifest.command).mkdir()
        write_record(runs / record.manifest.command, record)
    assert cli.main(["report", str(runs / "attack"), str(runs / "diagnose"), "--out", str(out)]) == 0
    return out


def contents(folders):
    return {path: path.read_bytes() for folder in folders.values() for path in folder.iterdir()}


def test_it_writes_page_card_and_results_and_leaves_the_runs_alone(tmp_path, folders, capsys, no_pictures):
    before = contents(folders)
    out = tmp_path / "new" / "report"
    assert cli.main(["report", *map(str, folders.values()), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"report.html", "model-card.md", "results.json", "config.toml"}
    assert before == contents(folders)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == printable(summarise(one_of_each_command()).headline)
    for record in one_of_each_command():
        part = part_of(record)
        assert printable(f"{part.title} ({folders[record.manifest.command]}): {part.headline}") in lines
    assert lines[-3:] == [
        f"Page: {out / 'report.html'}",
        f"Model card: {out / 'model-card.md'}",
        f"Figures: {out / 'results.json'}",
    ]
    page, card = Page((out / "report.html").read_text()), (out / "model-card.md").read_text()
    assert str(folders["attack"]) in page.alone
    assert card.startswith("---\n")
    assert Page(f"<p>{card.replace('<', '&lt;')}</p>").text.strip() in page.text


def test_json_is_the_file_and_holds_claims_manifests_and_paths(tmp_path, folders, capsys, no_pictures):
    out = tmp_path / "out"
    assert cli.main(["report", str(folders["attack"]), "--out", str(out), "--json", "--seed", "3"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((out / "results.json").read_text())
    record = read_record_of(out, ReportRecord)
    assert (record.manifest.command, record.manifest.settings["seed"]) == ("report", 3)
    assert record.manifest.command_line == f"cimm report {folders['attack']} --seed 3"
    assert record.files == {"page": str(out / "report.html"), "model_card": str(out / "model-card.md")}
    (run,) = record.runs
    assert run.folder == str(folders["attack"])
    assert run.manifest == read_record_of(folders["attack"], AttackRecord).manifest
    assert list(run.claims) == claims_of(attack_record())
    assert len(run.claims) == 2
    assert run.headline == part_of(attack_record()).headline
    assert record.verdict == summarise([attack_record()]).headline


def test_tables_are_written_in_both_forms_and_told(tmp_path, folders, capsys, no_pictures):
    out, tables = tmp_path / "out", tmp_path / "new" / "tables"
    words = ["report", str(folders["attack"]), str(folders["immunize"]), "--out", str(out), "--tables", str(tables)]
    assert cli.main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Tables: {tables}"
    parts = [part_of(record, str(folders[record.manifest.command])) for record in one_of_each_command()]
    shown = [part for part in parts if part.folder in words]
    assert {path.name: path.read_text() for path in tables.iterdir()} == table_files(shown)
    assert read_record_of(out, ReportRecord).files["tables"] == str(tables)


def test_tables_that_cannot_be_written_are_one_line(tmp_path, folders, capsys, no_pictures):
    (tmp_path / "file").write_text("")
    words = ["report", str(folders["attack"]), "--out", str(tmp_path / "out"), "--tables", str(tmp_path / "file")]
    assert cli.main(words) == 2
    assert capsys.readouterr().err.startswith(f"cimm: --tables: cannot write to {tmp_path / 'file'} (")
    assert not (tmp_path / "out").exists()


def test_a_second_report_replaces_the_first(tmp_path, folders, no_pictures):
    out = tmp_path / "out"
    for command, shown in (("attack", "Attacks on"), ("diagnose", "Diagnosis of")):
        assert cli.main(["report", str(folders[command]), "--out", str(out)]) == 0
        assert f"<h2>{shown} digits" in (out / "report.html").read_text()


def damaged(tmp_path, kind):
    """A run folder that is broken in one way."""
    folder = tmp_path / kind
    folder.mkdir()
    content = encode(report_record() if kind == "report" else attack_record())
    if kind == "schema":
        content["manifest"]["schema"] = 999
    elif kind == "foreign":
        content = {"manifest": {"command": "other"}}
    elif kind == "unknown":
        content["manifest"]["command"] = "<unknown>"
    elif kind == "incomplete":
        del content["tasks"]["harmful"]["pencil"]["adam"]["steps"]
    elif kind == "contradiction":
        del content["tasks"]["harmful"]["undefended"]
    elif kind == "no_tasks":
        del content["tasks"]
    elif kind == "wrong_type":
        content["manifest"]["settings"] = []
    if kind != "missing":
        text = json.dumps(content)
        (folder / "results.json").write_text(text[:-20] if kind == "cut" else text)
    return folder


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "cannot be read"),
        ("cut", "is damaged"),
        ("schema", "layout 999"),
        ("foreign", "was not written by cimm"),
        ("report", "written by cimm report, which has nothing to show"),
        ("unknown", "was not written by cimm"),
        ("incomplete", "lacks steps @ $.tasks['harmful']['pencil']['adam']"),
        ("contradiction", "contradict each other (KeyError: 'undefended'); make the run again"),
        ("no_tasks", "lacks tasks"),
        ("wrong_type", "damaged or incomplete"),
    ],
)
def test_a_bad_run_is_named_in_one_line_and_nothing_is_written(tmp_path, folders, capsys, no_pictures, kind, said):
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


def test_a_run_is_never_overwritten(folders, tmp_path, capsys, no_pictures):
    before = contents(folders)
    assert cli.main(["report", str(folders["diagnose"]), "--out", str(folders["attack"])]) == 2
    assert "--out" in capsys.readouterr().err
    assert contents(folders) == before
    for number, text in enumerate(("not ours", "[" * 100_000, "{}")):
        out = tmp_path / str(number)
        out.mkdir()
        (out / "results.json").write_text(text)
        assert cli.main(["report", str(folders["diagnose"]), "--out", str(out)]) == 2
        assert "is not of an earlier report" in capsys.readouterr().err
        assert (out / "results.json").read_text() == text


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
  document.querySelectorAll("details").forEach(folded => { folded.open = true; });
  root.dataset.cut = Math.max(0, ...[...document.querySelectorAll("table")].map(table => {
    const box = table.closest(".scroll"), edge = box.getBoundingClientRect().right;
    box.scrollLeft = box.scrollWidth;
    return Math.max(...[...table.rows].map(row => row.lastElementChild.getBoundingClientRect().right)) - edge;
  }));
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
    assert found["cut"] == 0, "to their last column"
    assert found["drawn"] == pictures
    assert found["dark"] == (pictures if scheme == "dark" else 0)
    shown = Page(re.sub(r"<script>.*?</script>", "", dom, flags=re.DOTALL))
    for text in ("Attacks on digits", "Broken by", "slows the best attacker", "Model card"):
        assert text in shown.text


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")
def test_real_runs_of_every_command_are_shown(tmp_path):
    quick = ["--rows", "20", "--attackers", "line_search", "sgd", "newton", "--methods", "pencil", "--rates", "2"]
    commands = (
        ["attack", *quick],
        ["immunize", "--steps", "3", "--resamples", "20"],
        ["diagnose"],
        ["sweep", "--steps", "1", "--rows", "12", "--heldout-rows", "12"],
    )
    for arguments in commands:
        assert cli.main([*arguments, "--out", str(tmp_path / arguments[0])]) == 0
    folders = [str(tmp_path / command) for command, *_ in commands]
    assert cli.main(["report", *folders, "--out", str(tmp_path / "report")]) == 0
    shown = Page((tmp_path / "report" / "report.html").read_text())
    assert [name for name in shown.attributes("id") if name.startswith("run-")] == [f"run-{n}" for n in (1, 2, 3, 4)]
