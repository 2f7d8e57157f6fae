"""`protect`: arrays, files and networks in, what the command would have made out, and a folder that the other commands take."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from data.feature_examples import write_npz
from networks.small_networks import NETWORK, filled
from pages import sketched, undrawn
from safetensors.numpy import load_file
from sample_records import trained_blocks_record

import cimm_jax
from cimm_jax.commands import cli
from cimm_jax.commands.immunize import Made
from cimm_jax.errors import InputError
from cimm_jax.front import protecting
from cimm_jax.runs.codec import same
from cimm_jax.runs.records import AttackRecord, ImmunizeRecord
from cimm_jax.runs.run_folder import read_record_of
from cimm_jax.runs.trained_defence import TrainedDefence
from cimm_jax.tasks import Task

pytestmark = pytest.mark.usefixtures("standard_promotion", "small_network")

ROWS, D, CUT = 30, 3, "layer3.0"
QUICK = {"ridge": 0.1, "resamples": 20, "heldout_share": 0.3}
WORDS = np.asarray(["ant", "bee", "cat"])


@pytest.fixture(autouse=True)
def no_pictures():
    with undrawn(), sketched():
        yield


@pytest.fixture(scope="module")
def tasks():
    rng = np.random.default_rng(0)
    labels = np.arange(ROWS) % 3
    x = [rng.normal(size=(ROWS, D)) * [1, 2, 4] + rng.normal(size=(3, D))[labels] for _ in range(2)]
    return {"primary": (x[0].astype(np.float32), labels), "harmful": Task(x[1], WORDS[labels])}


@pytest.fixture(scope="module")
def protected(tasks):
    with jax.enable_x64(False):
        return cimm_jax.protect(**tasks, budget=10, seed=3, **QUICK)


def test_what_is_made_is_what_the_saved_folder_holds_and_what_the_command_makes_again(
    protected, tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with jax.enable_x64(False):
        assert protected.save("run") == Path("run")
    assert capfd.readouterr() == ("", "")
    names = {"config.toml", "results.json", "immunize.png", "theta.safetensors", "primary.npz", "harmful.npz"}
    assert {path.name for path in Path("run").iterdir()} == names
    np.testing.assert_array_equal(load_file("run/theta.safetensors")["theta"], protected.theta)
    record = read_record_of(Path("run"), ImmunizeRecord)
    places = {"primary": tmp_path / "run/primary.npz", "harmful": tmp_path / "run/harmful.npz"}
    assert record.source == replace(protected.record.source, **places)
    assert same(record.measures, protected.record.measures)
    assert cli.main(["immunize", "--config", "run/config.toml", "--quiet", "--out", "again"]) == 0
    again = read_record_of(Path("again"), ImmunizeRecord)
    assert again.manifest.data_sha256 == record.manifest.data_sha256
    assert same(again.measures, record.measures)
    assert (again.source, again.rows, again.names) == (record.source, record.rows, record.names)
    assert Path("again/theta.safetensors").read_bytes() == Path("run/theta.safetensors").read_bytes()
    command = ["attack", "run", "--attackers", "line_search", "--attack-steps", "20", "--harmful-only", "--quiet"]
    assert cli.main([*command, "--out", "attack"]) == 0
    assert list(read_record_of(Path("attack"), AttackRecord).extractors) == ["undefended", "run"]
    assert cli.main(["export", "run", "--attacks", "attack", "--to", "hub", "--quiet"]) == 0
    np.testing.assert_array_equal(
        load_file("hub/model.safetensors")["immunization.weight"], protected.theta.T.astype(np.float32)
    )


def test_it_says_what_it_found(protected, tasks):
    parts = protected.record.measures.parts
    assert list(parts) == ["train", "heldout"]
    assert protected.verdict is parts["heldout"].verdict
    assert str(protected).startswith("pencil on own features: keep primary.npz, block harmful.npz. By Definition 3.1: ")
    assert protected.record.rows["heldout"] == {"primary": 9, "harmful": 9}
    assert protected.published is None
    x = tasks["primary"][0]
    assert protected.transform(x).dtype == np.float32
    np.testing.assert_allclose(protected.transform(x.astype(float)), x @ protected.theta, rtol=1e-12)


def test_files_and_arrays_may_be_mixed_and_heldout_rows_given(tasks, tmp_path, monkeypatch):
    given = {}

    def made(prepared, checkpoint):
        given.update(prepared=prepared)
        raise InterruptedError

    monkeypatch.setattr(protecting, "defend", made)
    x, y = tasks["primary"]
    path = write_npz(tmp_path / "h.npz")
    with pytest.raises(InterruptedError):
        cimm_jax.protect(
            {"x": x, "y": y, "x_heldout": x[:9] + 1, "y_heldout": y[:9]}, path, method="algorithm1", steps=7
        )
    subject = given["prepared"].subject
    np.testing.assert_array_equal(subject.pairs()["heldout"].primary.x, x[:9] + 1)
    assert (subject.source.harmful, given["prepared"].steps) == (path, 7)


def test_trained_blocks_of_a_network_are_published(inputs, tmp_path, monkeypatch):
    """Training and measuring are the command's, and take most of the time."""
    trained = filled(NETWORK, 1)

    def made(prepared, checkpoint):
        assert checkpoint.parent.is_dir()
        assert (prepared.subject.cut, prepared.training.steps) == (CUT, 3)
        return Made(TrainedDefence("algorithm1", trained, CUT), None, trained_blocks_record().training)

    def record(prepared, made):
        source, network = prepared.subject.source, prepared.subject.network_data
        return replace(trained_blocks_record(), source=source, training=made.training, network=network)

    monkeypatch.setattr(protecting, "defend", made)
    monkeypatch.setattr(protecting, "measured", record)
    paths = [inputs / task for task in ("primary", "harmful")]
    network = {"model": "small", "weights": inputs / "small.safetensors", "cache": inputs / "cache", "train_from": CUT}
    protected = cimm_jax.protect(*paths, **network, method="algorithm1", steps=3)
    assert protected.theta is None
    assert protected.published.network is trained
    protected.save(tmp_path / "run")
    head = load_file(tmp_path / "run/model.safetensors")["linear.weight"]
    np.testing.assert_array_equal(head.T, protected.published.head.kernel)
    assert read_record_of(tmp_path / "run", ImmunizeRecord).training.trained_from == CUT
    assert not (tmp_path / "run/primary.npz").exists()
    with pytest.raises(InputError, match="transform: trained blocks have no map"):
        protected.transform(np.ones((2, 12)))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"primary": np.ones(3)}, "primary: x has features of shape .3,."),
        ({"primary": ([["a"]], [1])}, "primary: x: needs real numbers, got <U1"),
        ({"harmful": (np.full((5, D), np.nan), np.arange(5))}, "harmful: x has nan in row 1, column 1"),
        ({"harmful": (np.ones((5, D)), np.arange(4))}, r"harmful: x has labels of shape .4,. for 5 rows"),
        ({"harmful": (np.ones((3, D)), [1, "a", None])}, "harmful: x, its labels: needs an array of numbers, got"),
        ({"harmful": (np.ones((5, 2)), np.arange(5))}, "harmful: x has 2 features and primary: x 3"),
        ({"harmful": {"y": np.ones(3)}}, "harmful: lacks x; give x, and perhaps y"),
        ({"harmful": {"x": np.ones((3, D)), "z": 1}}, "harmful: has z; give x"),
        (
            {"harmful": {"x": np.ones((3, D)), "y": [0, 1, 0], "x_heldout": np.ones((3, D))}},
            "x_heldout has no labels and",
        ),
        ({"harmful": "gone.npz"}, "harmful: gone.npz is missing|harmful: .*gone.npz is missing"),
        ({"model": "small"}, "primary: maps of a network .* are named by paths or words, got arrays"),
        ({"data": "digits"}, "primary: data sets are named by paths or words, got arrays"),
        ({"harmful_too": ["a.npz"]}, "harmful_too: several harmful tasks need files of features, got arrays"),
        ({"methd": "pencil"}, "methd: is no setting; did you mean method"),
        ({"out": "x"}, "out: is no setting"),
        ({"track": ["tensorboard"]}, "track: is no setting"),
        ({"ridge": "much"}, "ridge: cannot be 'much'"),
        ({"budget": "much"}, "budget: needs a number"),
        ({"heldout_share": 2.0}, "heldout_share: needs a share above 0"),
        (
            {"method": "algorithm1", "primary": np.ones((9, D))},
            "primary: .* has no labels, and the method trains on them",
        ),
    ],
)
def test_bad_input_is_one_line_before_anything_is_computed(tasks, monkeypatch, changed, told):
    monkeypatch.setattr(protecting, "defend", lambda *_: pytest.fail("something was computed"))
    with pytest.raises(InputError, match=told) as refused:
        cimm_jax.protect(**{**tasks, **changed})
    assert len(str(refused.value).splitlines()) == 1
