"""Own features from end to end: immunized, diagnosed, attacked, climbed, shown, found again, and refused in one line."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands.network_runs import printed
from data.feature_examples import WORDS, X, Y, write_csv, write_npy, write_npz

from cimm_jax.commands import cli
from cimm_jax.runs.records import AttackRecord, DiagnoseRecord, ImmunizeRecord, LadderRecord
from cimm_jax.runs.run_folder import read_record_of, write_record

pytestmark = pytest.mark.usefixtures("standard_promotion")

ATTACK = ["--attackers", "line_search", "--attack-steps", "20"]
ROWS, FEATURES = 30, 3


def files(folder: Path) -> list[str]:
    """A task of two classes by number in .npz, and one of three by name in .csv, each around means of its own."""
    rng = np.random.default_rng(0)
    labels = np.arange(ROWS) % 2, np.asarray(["ant", "bee", "cat"])[np.arange(ROWS) % 3]
    x = [rng.normal(size=(ROWS, FEATURES)) + rng.normal(size=(3, FEATURES))[np.arange(ROWS) % 3] for _ in labels]
    folder.mkdir(exist_ok=True)
    write_csv(folder / "blocked.csv", x[1], labels[1], "kind")
    np.savez(folder / "other.npz", x=x[1][::-1], kind=labels[0])
    np.savez(folder / "kept.npz", x=x[0].astype(np.float16), kind=labels[0])
    return ["--primary", str(folder / "kept.npz"), "--harmful", str(folder / "blocked.csv")]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Files, and a run of `cimm immunize` on them."""
    folder = tmp_path_factory.mktemp("own")
    own = ["immunize", *files(folder), "--label", "kind", "--method", "pencil", "--resamples", "20", "--reserve", "0.5"]
    (folder / "printed.txt").write_text(printed(cli.main, [*own, "--out", str(folder / "run")]))
    return folder


def test_a_run_is_judged_on_rows_that_were_drawn_and_says_from_what(run):
    record = read_record_of(run / "run", ImmunizeRecord)
    source = record.source
    assert (source.primary, source.harmful) == (run / "kept.npz", run / "blocked.csv")
    assert (source.label, source.heldout_share, source.heldout_seed, source.reserved) == ("kind", 0.2, 0, 0.5)
    assert record.rows == {"train": {"primary": 24, "harmful": 12}, "heldout": {"primary": 6, "harmful": 6}}
    assert record.names == ("kept.npz", "blocked.csv", None)
    parts = [f"{part}.{task}.{of}" for part in ("train", "heldout") for task in ("primary", "harmful") for of in "xy"]
    assert set(record.manifest.data_sha256) == set(parts)
    assert set(record.measures.parts) == {"train", "heldout"}
    shown = (run / "printed.txt").read_text()
    assert "pencil on own features: keep kept.npz, block blocked.csv" in shown


def test_a_run_is_attacked_on_its_own_files_and_on_a_benign_one(run, tmp_path):
    benign = ["--benign", str(run / "other.npz")]
    assert cli.main(["attack", str(run / "run"), *ATTACK, *benign, "--out", str(tmp_path)]) == 0
    record = read_record_of(tmp_path, AttackRecord)
    assert list(record.extractors) == ["undefended", "run"]
    assert list(record.tasks) == ["harmful", "primary", "benign"]
    assert (record.classes, record.heldout_by, record.names.benign) == (True, "errors", "other.npz")
    assert record.rows["harmful"] == {"train": 12, "heldout": 6}
    accuracy = record.tasks["harmful"]["undefended"]["line_search"].accuracy
    assert accuracy is not None


def test_rungs_that_need_a_network_are_said_to_be_absent_and_all_is_shown_on_a_page(run, tmp_path):
    ladder = ["--ladder", "--rungs", "1", "3", "4", "--seeds", "1", "--images-a-class", "4"]
    shown = printed(cli.main, ["attack", str(run / "run"), *ladder, "--out", str(tmp_path / "ladder")])
    record = read_record_of(tmp_path / "ladder", LadderRecord)
    assert set(record.absent) == {"gradients", "nonlinear", "layers", "fine-tuning"}
    assert record.absent["layers"] == record.absent["fine-tuning"]
    assert (record.classes, record.judged.rows, record.own_images) == (3, 6, True)
    assert "there are features, and no network that they come from" in shown
    runs = [str(run / "run"), str(tmp_path / "ladder")]
    assert cli.main(["report", *runs, "--out", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "report.html").read_text()
    assert "blocked.csv" in page


def test_methods_that_look_at_no_labels_need_none(tmp_path, capsys):
    x = write_npz(tmp_path / "p.npz", y=None)
    paths = ["--primary", str(x), "--harmful", str(write_npy(tmp_path / "h.npy", X[:, ::-1] * [1, 1, 5], None))]
    out = ["--method", "pencil", "--resamples", "20", "--out", str(tmp_path / "run")]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/immunize.png").write_text("of an earlier run")
    shown = printed(cli.main, ["immunize", *paths, *out])
    assert "Picture" not in shown, "there is no course, and no labels that anybody could learn"
    assert not (tmp_path / "run/immunize.png").exists()
    assert cli.main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page")]) == 0
    assert "blocked" in (tmp_path / "page/report.html").read_text()
    capsys.readouterr()
    for words, told in (
        (["immunize", *paths], f"primary: {tmp_path}/p.npz has no labels, and the method trains on them"),
        (
            ["attack", str(tmp_path / "run")],
            f"harmful: {tmp_path}/h.npy has no labels, and attackers are judged by them",
        ),
        (["attack", str(tmp_path / "run"), "--ladder"], f"harmful: {tmp_path}/h.npy has no labels, and attackers are"),
    ):
        assert cli.main([*words, "--out", str(tmp_path / "refused")]) == 2
        message = capsys.readouterr().err
        assert told in message
        assert len(message.splitlines()) == 1
    assert not (tmp_path / "refused").exists()


def test_amounts_have_no_ladder(tmp_path, capsys):
    paths = ["--primary", str(write_npz(tmp_path / "p.npz")), "--harmful", str(write_npz(tmp_path / "h.npz"))]
    for more, told in (
        (["--ladder"], "h.npz has no classes"),
        (["--loss", "logistic"], "loss: amounts are no classes"),
    ):
        words = ["attack", *paths, "--target", "regression", "--methods", "pencil", *more]
        assert cli.main([*words, "--out", str(tmp_path / "refused")]) == 2
        assert told in capsys.readouterr().err
        assert not list((tmp_path / "refused").glob("*"))


# --- a run is read again ---


def test_files_that_changed_or_are_gone_are_refused_unless_the_command_line_says_where_they_are(run, tmp_path, capsys):
    files(tmp_path / "files")
    shutil.copytree(run / "run", tmp_path / "run")
    record = read_record_of(run / "run", ImmunizeRecord)
    moved = replace(record.source, primary=tmp_path / "files/gone.npz", harmful=tmp_path / "files/blocked.csv")
    write_record(tmp_path / "run", replace(record, source=moved))
    attack = ["attack", str(tmp_path / "run"), *ATTACK, "--harmful-only", "--out", str(tmp_path / "out")]
    assert cli.main(attack) == 2
    assert f"primary: {tmp_path}/files/gone.npz is missing" in capsys.readouterr().err
    there = ["--primary", str(tmp_path / "files/kept.npz")]
    text = (tmp_path / "files/blocked.csv").read_text()
    (tmp_path / "files/blocked.csv").write_text(text.replace("ant", "bee", 1))
    assert cli.main([*attack, *there]) == 2
    told = "runs: run was made from other data, "
    assert told in (message := capsys.readouterr().err)
    assert "train.harmful.y" in message
    assert message.endswith("say with --primary and --harmful where its own are\n")
    assert not (tmp_path / "out").exists()
    (tmp_path / "files/blocked.csv").write_text(text)
    assert cli.main([*attack, *there]) == 0


# --- bad input ---


@pytest.mark.parametrize("command", ["immunize", "diagnose", "attack"])
@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["a.npz"], "harmful: needs a file or folder of features, as the other task is, got nothing"),
        (["a.npz", "2v3"], "harmful: needs a file or folder of features, as the other task is, got the digit task 2v3"),
        (["a.npz", "gone.npz"], "harmful: gone.npz is missing"),
        (["a.npz", "empty"], "harmful: empty has no files"),
        (["a.npz", "mixed"], "harmful: mixed has files of several formats (.csv, .npz)"),
        (["a.npz", "notes.txt"], "harmful: notes.txt is no file of a known format (.txt)"),
        (["a.npz", "narrow.npz"], "harmful: narrow.npz has 2 features and primary: a.npz 3"),
        (["a.npz", "nan.npz"], "harmful: nan.npz has nan in row 2, column 3"),
        (["a.npz", "zero.npz"], "harmful.x: is zero everywhere"),
        (["a.npz", "text.csv"], "harmful: text.csv has 'blue' in row 1, column b"),
        (["a.npz", "few.npz"], "harmful: few.npz has 2 rows and 3 classes in its held-out part"),
        (["a.npz", "a.npz", "--label", "kind"], "label: primary: a.npz has no kind; it has x, y"),
        (["a.npz", "a.npz", "--heldout-share", "1"], "--heldout-share: needs a share above 0 and below 1"),
        (["a.npz", "a.npz", "--data-dir", "empty"], "--data-dir: is a setting of "),
        (["0v1", "2v3", "--label", "y"], "label: is a setting of own features"),
    ],
)
def test_bad_files_are_one_line_and_status_2(tmp_path, monkeypatch, capsys, command, given, told):
    monkeypatch.chdir(tmp_path)
    write_npz(Path("a.npz"))
    write_npz(Path("narrow.npz"), X[:, :2])
    write_npz(Path("zero.npz"), X * 0)
    write_npz(Path("nan.npz"), np.where(np.arange(36).reshape(12, 3) == 5, np.nan, X))
    write_npz(Path("few.npz"), x_heldout=X[:2], y_heldout=Y[:2])
    Path("text.csv").write_text("a,b,y\n1,blue,0\n")
    Path("notes.txt").write_text("")
    for folder in ("empty", "mixed"):
        Path(folder).mkdir()
    write_npz(Path("mixed/a.npz"))
    write_csv(Path("mixed/b.csv"), y=WORDS)
    tasks = [word for flag, text in zip(("--primary", "--harmful"), given[:2], strict=False) for word in (flag, text)]
    assert cli.main([command, *tasks, *given[2:], "--out", "out"]) == 2
    message = capsys.readouterr().err
    assert told in message.replace(f"{tmp_path}/", "")
    assert len(message.splitlines()) == 1
    assert not Path("out").exists(), "nothing is computed"


def test_features_that_are_too_many_to_be_held_are_diagnosed_alike(tmp_path, monkeypatch):
    given = ["diagnose", *files(tmp_path), "--label", "kind", "--top-k", "2"]
    held, condensed = tmp_path / "held", tmp_path / "condensed"
    assert cli.main([*given, "--out", str(held)]) == 0
    monkeypatch.setattr("cimm_jax.runs.feature_subject.MOST_ENTRIES", 0)
    monkeypatch.setattr("cimm_jax.runs.feature_subject.FeatureSubject.pairs", None)
    assert cli.main([*given, "--out", str(condensed)]) == 0
    one, other = (read_record_of(folder, DiagnoseRecord) for folder in (held, condensed))
    assert other.manifest.data_sha256 == one.manifest.data_sha256
    assert (other.diagnosis.verdict, other.diagnosis.ridge) == (one.diagnosis.verdict, one.diagnosis.ridge)
    for name in ("mu", "harmful_energy", "primary_energy", "undefended"):
        np.testing.assert_allclose(getattr(other.diagnosis, name), getattr(one.diagnosis, name), rtol=1e-8)
    np.testing.assert_allclose(other.diagnosis.limit.log_rir, one.diagnosis.limit.log_rir, rtol=1e-8)
    for row, wanted in zip(other.diagnosis.budgets, one.diagnosis.budgets, strict=True):
        np.testing.assert_allclose(row.heldout.rir, wanted.heldout.rir, rtol=1e-8)
