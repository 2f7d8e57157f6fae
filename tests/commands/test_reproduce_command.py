"""`cimm reproduce` and the experiments behind it, small, on made-up data of the right shape."""

import importlib
import json

import jax
import numpy as np
import pytest

from cimm_jax.commands import cli
from cimm_jax.data.digit_images import DigitImages
from cimm_jax.tasks import SplitPair, Task, TaskPair


@pytest.fixture(autouse=True)
def one_attacker(monkeypatch, standard_promotion_everywhere):
    from experiments import measure

    def quick(thetas, split, **settings):
        return measure.attacked(thetas, split, attackers=("line_search",), steps=20)

    for name in ("table1_house", "table2_mnist"):
        monkeypatch.setattr(importlib.import_module(f"experiments.{name}"), "attacked", quick)


@pytest.fixture
def digits(rng, monkeypatch):
    """Ten digits of 16 pixels instead of MNIST, and only three ordered pairs of them."""
    from experiments import table2_mnist

    mixing = rng.standard_normal((10, 16, 16))
    y = np.repeat(np.arange(10), 40)
    x = np.einsum("ni,nij->nj", rng.standard_normal((400, 16)), mixing[y])
    images = DigitImages(x, y, x[::2] + 0.1, y[::2])
    monkeypatch.setattr(table2_mnist, "load_digit_images", lambda *a, **k: images)
    monkeypatch.setattr(table2_mnist, "ordered_pairs", lambda: [(0, 1), (1, 0), (4, 9)])
    return images


@pytest.fixture
def houses(rng, monkeypatch):
    from experiments import figure1, table1_house

    def task(rows):
        x = rng.standard_normal((rows, 12)) * np.geomspace(1, 0.1, 12)
        return Task(x, x @ rng.standard_normal(12))

    split = SplitPair(TaskPair(task(80), task(80)), TaskPair(task(70), task(70)))
    for module in (table1_house, figure1):
        monkeypatch.setattr(module, "load_pair", lambda *a, **k: split)


def test_table1_stands_beside_the_published_numbers_and_resumes(houses, tmp_path, capsys, monkeypatch):
    from experiments import table1_house

    chosen = {name: row for name, row in table1_house._rows().items() if name in ("algorithm1 as released", "pencil")}
    monkeypatch.setattr(table1_house, "_rows", lambda: chosen)
    arguments = ["reproduce", "table1", "--data-dir", str(tmp_path), "--seeds", "2", "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "356.2" in printed
    for name in chosen:
        assert name in printed
    results = json.loads((tmp_path / "out/results.json").read_text())
    runs = results["methods"]["algorithm1 as released"]
    assert len(runs) == 2
    assert runs[0]["released_rir"] != runs[1]["released_rir"], "another seed, another start"
    assert results["methods"]["pencil"][0]["share"] > 0.9

    monkeypatch.setattr(table1_house, "immunized", None)
    assert cli.main([*arguments, "--json"]) == 0, "everything is finished, nothing is run again"
    assert json.loads(capsys.readouterr().out) == results


def test_table2_saves_every_pair_and_figure2_draws_them(digits, tmp_path, capsys, monkeypatch):
    from experiments import table2_mnist

    out = tmp_path / "table2"
    chosen = {"algorithm1 as released": table2_mnist.METHODS["algorithm1 as released"]}
    arguments = [
        "--data-dir",
        str(tmp_path),
        "--rows",
        "20",
        "--epochs",
        "2",
        "--seeds",
        "1",
        "--at-once",
        "1",
        "--out",
        str(out),
    ]
    run, made = table2_mnist._run, []

    def stop_after_two(*settings):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(settings[3])
        return run(*settings)

    monkeypatch.setattr(table2_mnist, "_run", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        table2_mnist.main([*arguments, "--methods", *chosen])
    made.clear()
    table2_mnist.main([*arguments, "--methods", *chosen])
    assert len(made) == 1, "two pairs were saved before the interruption"
    assert "algorithm1 as released" in capsys.readouterr().out

    figure = tmp_path / "figure2"
    assert cli.main(["reproduce", "figure2", "--runs", str(out), "--out", str(figure)]) == 0
    assert "axes exchanged" in capsys.readouterr().out
    maps = json.loads((figure / "results.json").read_text())["maps"]
    runs = json.loads((out / "results.json").read_text())["methods"]["algorithm1 as released"]
    values = np.array(maps["algorithm1 as released, ReleasedCode"]["map"], float)
    assert np.isfinite(values).sum() == 3
    assert values[9, 4] == pytest.approx(np.log(runs[2]["released_rir"])), (
        "rows are harmful digits, columns primary ones"
    )
    assert (figure / "figure2_ReleasedCode.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_figure1_draws_both_measures_of_both_tasks(houses, tmp_path, capsys):
    arguments = [
        "reproduce",
        "figure1",
        "--data-dir",
        str(tmp_path),
        "--seeds",
        "1",
        "--rows",
        "10",
        "--out",
        str(tmp_path),
    ]
    from experiments import figure1

    made = figure1.every_method()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure1, "every_method", lambda *a: {name: made[name] for name in ("algorithm1", "pencil")})
        assert cli.main(arguments) == 0
    curves = json.loads((tmp_path / "results.json").read_text())["curves"]["House Prices"]
    assert set(curves) == {"harmful", "primary"}
    assert set(curves["harmful"]) == {"undefended", "algorithm1", "pencil"}
    ratio = np.array(curves["harmful"]["pencil"]["norm_ratio"])
    assert (np.diff(ratio) <= 1e-12).all(), "line search never moves away from the best probe"
    assert (tmp_path / "figure1.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["table1"], "--data-dir"),
        (["table1", "--data-dir", "EMPTY"], "house_prices"),
        (["table2", "--data-dir", "EMPTY"], "mnist"),
        (["table2", "--data-dir", "EMPTY", "--rows", "0"], "rows"),
        (["table1", "--data-dir", "EMPTY", "--epochs", "3"], "epochs"),
        (["table1", "--data-dir", "EMPTY", "--runs", "EMPTY"], "runs"),
        (["figure2", "--runs", "EMPTY"], "results.json"),
        (["figure2", "--seeds", "2"], "seeds"),
        (["figure3", "--runs", "EMPTY"], "cimm reproduce table3"),
        (["figure3", "--config", "lite0_cars"], "config: figure3 draws what table3 found"),
        (["table3", "--data-dir", "EMPTY"], "config"),
        (
            ["table3", "--config", "nosuch"],
            "'nosuch' is no configuration of table3; choose one of lite0_cars, resnet20_mnist",
        ),
        (["--config", "nosuch"], "tail_resnet20_mnist"),
        (["--config", "lite0_cars"], "what: needs one of table1, table2, table3, figure1"),
        ([], "what: needs one of table1, table2, table3, figure1, figure2, figure3, as in: cimm reproduce table1"),
        (["table4"], "got 'table4'"),
        (["table1", "--data-dir", "EMPTY", "--config", "lite0_cars"], "config"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, arguments, named):
    placed = [str(tmp_path / "empty") if argument == "EMPTY" else argument for argument in arguments]
    assert cli.main(["reproduce", *placed, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert named in captured.err
    assert len(captured.err.strip().splitlines()) == 1


def test_released_gradients_are_those_of_its_regularizers():
    """Without the preconditioner (a ridge so large that it is a multiple of the identity), against automatic ones."""
    from experiments import released_code
    from experiments.released_code import HOUSE

    rng = np.random.default_rng(0)
    x, theta, ridge = rng.standard_normal((6, 9)), rng.standard_normal((9, 9)), 1e9
    settings = HOUSE._replace(lambda_harmful=1.0, ridge_harmful=ridge, size=7)

    def ill(theta):
        s = (x @ theta).T @ (x @ theta)
        return 1 / ((s**2).sum() / (2 * 7))

    closed = x.T @ released_code._ill(x @ theta, x, settings) * ridge
    np.testing.assert_allclose(closed, jax.grad(ill)(theta), rtol=1e-6, atol=1e-12)

    def well(theta):
        s = (x @ theta).T @ (x @ theta)
        return 0.5 * jax.numpy.linalg.norm(s, 2) ** 2 - (s**2).sum() / (2 * 7)

    closed = x.T @ released_code._well(x @ theta, x, settings._replace(lambda_primary=1.0))
    # theta is the transpose of PyTorch's weight, whose gradient is solved with from the left.
    expected = np.linalg.solve(x.T @ x + np.eye(9), np.asarray(jax.grad(well)(theta)).T).T
    np.testing.assert_allclose(closed, expected, rtol=1e-8)
