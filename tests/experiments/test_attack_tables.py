"""Who breaks what, small: on scikit-learn's digits instead of House Prices and MNIST, with one method and two attackers."""

from dataclasses import replace

import pytest

from cimm_jax import attacks
from cimm_jax.runs.records import AttackRecord
from cimm_jax.runs.run_folder import read_record_of
from cimm_jax.runs.subject import DataSubject
from experiments import attack_tables


@pytest.fixture(autouse=True)
def small(monkeypatch, standard_promotion_everywhere):
    operators = attacks.standard_operators(("line_search", "whiten + line_search"), steps=20)
    monkeypatch.setattr(
        attack_tables, "DataSubject", lambda source: DataSubject(replace(source, data="digits", data_dir=None))
    )
    monkeypatch.setattr(attack_tables.attacks, "standard_operators", lambda: operators)
    monkeypatch.setattr(attack_tables.methods, "BY_NAME", {})
    monkeypatch.setattr(attack_tables.methods, "PRESETS", {"pencil_signal": None})


@pytest.mark.slow
def test_a_pair_is_run_once_and_again_if_something_else_makes_it(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    arguments = ["--data-dir", str(tmp_path), "--rows", "60", "--pairs", "1", "--out", str(out)]
    attack_tables.main(arguments)
    printed = capsys.readouterr().out
    assert "House Prices" in printed
    assert "MNIST, primary 0v1, harmful 2v3" in printed
    record = read_record_of(out / "mnist-0v1-2v3", AttackRecord)
    assert list(record.extractors) == ["undefended", "pencil_signal"]
    assert record.manifest.settings["hessian"] == "batch"
    assert record.rows["harmful"]["train"] < read_record_of(out / "house", AttackRecord).rows["harmful"]["train"]
    assert record.budget.seeds == attack_tables.SEEDS

    monkeypatch.setattr(attack_tables, "attack", lambda *_, **__: pytest.fail("run again"))
    attack_tables.main(arguments)
    assert capsys.readouterr().out == printed, "everything is finished, nothing is run again"
    with pytest.raises(pytest.fail.Exception, match="run again"):
        attack_tables.main([*arguments, "--rows", "50"])


def test_a_pair_that_was_cut_off_is_not_taken_for_a_finished_one(tmp_path, monkeypatch):
    monkeypatch.setattr(attack_tables, "attack", lambda *_, **__: (None, "1 of 2 attackers were finished"))
    arguments = ["--data-dir", str(tmp_path), "--pairs", "0", "--out", str(tmp_path)]
    for _ in range(2):
        with pytest.raises(SystemExit, match="1 of 2 attackers were finished"):
            attack_tables.main(arguments)
    assert not list(tmp_path.rglob("results.json"))
