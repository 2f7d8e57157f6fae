"""`cimm immunize --track`: the libraries are asked for by name, and stand-ins take what they would be shown."""

import sys
from types import SimpleNamespace

import pytest
from sample_records import immunize_record

from cimm_jax.commands import cli
from cimm_jax.commands.tracking import TRACKERS, track
from cimm_jax.runs.codec import encode


class Taken:
    """A writer of TensorBoard or a run of Weights & Biases."""

    def __init__(self, *place, **given):
        self.place, self.given, self.scalars = place, given, []
        Taken.last = self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.closed = True

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))

    def log(self, values, step):
        self.scalars += [(name, value, step) for name, value in values.items()]


@pytest.fixture
def libraries(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=Taken))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=Taken))


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("name", TRACKERS)
def test_a_run_is_shown_step_by_step_and_at_its_end(tmp_path, name):
    record = immunize_record()
    track([name], tmp_path, record)
    shown = {}
    for scalar, value, step in Taken.last.scalars:
        shown.setdefault(scalar, []).append((step, value))
    assert Taken.last.closed
    history = record.history
    assert shown["loss"] == list(enumerate(map(float, history.loss), 1))
    assert [value for _, value in shown["kappa/harmful"]] == pytest.approx(list(history.kappa_harmful))
    for part, measures in record.measures.parts.items():
        for policy, ratio in measures.ratios.items():
            assert shown[f"{part}/{policy}/rir"] == [(len(history.loss), float(ratio.rir))]


@pytest.mark.usefixtures("libraries")
def test_weights_and_biases_is_shown_steps_in_order_and_the_settings(tmp_path):
    record = immunize_record()
    track(["wandb"], tmp_path, record)
    steps = [step for *_, step in Taken.last.scalars]
    assert steps == sorted(steps)
    assert Taken.last.given["config"] == encode(record.manifest)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_library_that_is_not_there_is_said_before_anything_runs(tmp_path, capsys, monkeypatch, name):
    library, _ = TRACKERS[name]
    monkeypatch.setitem(sys.modules, library, None)
    assert cli.main(["immunize", "--track", name, "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert f"--track: {name} needs {library}, which is not installed; pip install 'cimm_jax[trackers]'" in message
    assert not (tmp_path / "out").exists()
