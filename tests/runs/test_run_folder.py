"""Run folders: what was written is read back, and whatever else is there is refused in one line, never with a traceback."""

import errno
import json
import os
from typing import Any

import pytest
from generated import made
from sample_records import (
    attack_record,
    changed,
    diagnose_record,
    immunize_record,
    network_map_record,
    report_record,
    shown_records,
    sweep_record,
    trained_blocks_record,
)

from cimm_jax import InputError
from cimm_jax.runs.codec import encode
from cimm_jax.runs.records import RECORDS, SCHEMA, AttackRecord, ImmunizeRecord
from cimm_jax.runs.run_folder import RESULTS_FILE, command_of, read_record, read_record_of, write_record


def refusal(folder, kind: Any = None) -> str:
    with pytest.raises(InputError) as caught:
        read_record(folder) if kind is None else read_record_of(folder, kind)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith("runs: ")
    assert str(folder) in message
    return message


def with_text(tmp_path, text: str | bytes):
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / RESULTS_FILE).write_bytes(content)
    return tmp_path


def test_a_folder_gives_back_the_record_that_was_written(tmp_path):
    for number, record in enumerate([*shown_records(), report_record()]):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert write_record(folder, record) == folder / RESULTS_FILE
        assert read_record(folder) == record
        assert read_record_of(folder, type(record)) == record
        assert command_of(folder) == record.manifest.command
        assert [path.name for path in folder.iterdir()] == [RESULTS_FILE]


def test_every_command_has_a_record_of_its_own():
    assert len(set(RECORDS.values())) == len(RECORDS)
    assert {type(record) for record in shown_records()} | {type(report_record())} == set(RECORDS.values())


def test_what_is_written_is_strict_json_in_ascii(tmp_path):
    record = changed(sweep_record(), "data", to="é<\n\u2028")
    record = changed(record, "manifest", "settings", "rate", to=float("nan"))
    text = write_record(tmp_path, record).read_text()
    assert text.isascii()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert read_record(tmp_path) == record


def test_another_kind_of_run_is_named(tmp_path):
    write_record(tmp_path, sweep_record())
    assert "is a run of cimm sweep; give folders of cimm immunize" in refusal(tmp_path, ImmunizeRecord)
    write_record(tmp_path, immunize_record())
    assert "is a run of cimm immunize; give folders of cimm attack" in refusal(tmp_path, AttackRecord)


def test_a_folder_without_results_or_no_folder_at_all(tmp_path):
    assert "cannot be read (No such file or directory)" in refusal(tmp_path)
    assert "give the --out folder of a finished run" in refusal(tmp_path / "missing")
    (tmp_path / RESULTS_FILE).mkdir()
    assert "cannot be read" in refusal(tmp_path)
    assert command_of(tmp_path) is None
    assert command_of(tmp_path / "missing") is None


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "open", refuse)
    assert "cannot be read (Permission denied)" in refusal(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "not JSON",
        '{"manifest": {"command": "attack"}',
        b"\xff\xfe\x00",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"manifest": {"command": "attack", "note": "\\ud800"}}',
    ],
    ids=["empty", "cut", "text", "half", "bytes", "deep lists", "deep", "half a character"],
)
def test_what_is_no_json_is_damaged(tmp_path, text):
    folder = with_text(tmp_path, text)
    assert "is damaged" in refusal(folder)
    assert command_of(folder) is None


@pytest.mark.parametrize(
    "content",
    [
        [],
        1,
        "text",
        None,
        {},
        {"command": "attack", "schema": 2},
        {"manifest": []},
        {"manifest": {}},
        {"manifest": {"command": "other", "schema": SCHEMA}},
        {"manifest": {"command": ["attack"], "schema": SCHEMA}},
        {"manifest": {"command": {"attack": 1}, "schema": SCHEMA}},
        {"manifest": {"command": None}},
        {"made_by": {}, "content": {}},
    ],
    ids=repr,
)
def test_what_is_not_ours_says_so(tmp_path, content):
    assert "was not written by cimm, or by an older version" in refusal(with_text(tmp_path, json.dumps(content)))


@pytest.mark.parametrize("schema", [SCHEMA - 1, SCHEMA + 1, 999, None, "3", [3]])
def test_another_layout_says_which_is_read(tmp_path, schema):
    content = encode(attack_record())
    content["manifest"]["schema"] = schema
    folder = with_text(tmp_path, json.dumps(content))
    assert f"has layout {schema}, this version reads {SCHEMA}; make the run again" in refusal(folder)


WRONG = [
    (attack_record, ("manifest", "settings"), [], "$.manifest.settings"),
    (attack_record, ("manifest", "versions", "jax"), None, "$.manifest.versions['jax']"),
    (attack_record, ("source",), "digits", "$.source"),
    (attack_record, ("source", "rows"), "20", "$.source.rows"),
    (attack_record, ("names",), ["a", "b", None], "$.names"),
    (attack_record, ("records",), "12", "$.records"),
    (attack_record, ("budget", "attackers"), "adam", "$.budget.attackers"),
    (attack_record, ("budget", "rates", "adam"), [0.1, "1.0"], "$.budget.rates['adam'][1]"),
    (attack_record, ("tasks",), [], "$.tasks"),
    (attack_record, ("tasks", "harmful", "pencil", "adam", "steps"), None, "['pencil']['adam'].steps"),
    (attack_record, ("tasks", "harmful", "pencil", "adam", "left"), 0.5, "['pencil']['adam'].left"),
    (attack_record, ("tasks", "harmful", "pencil", "adam", "breaks"), "no", "['pencil']['adam'].breaks"),
    (attack_record, ("tasks", "harmful", "pencil", "adam", "curve"), [1.0, None], "['pencil']['adam'].curve"),
    (attack_record, ("tasks", "harmful", "pencil", "adam", "curve"), [[1.0], 2.0], "['pencil']['adam'].curve"),
    (attack_record, ("extractors", "pencil", "measures", "parts"), None, "['pencil'].measures.parts"),
    (attack_record, ("classes",), 1, "$.classes"),
    (immunize_record, ("history", "floored"), 1.5, "$.history.floored"),
    (immunize_record, ("measures", "parts", "train", "verdict", "reasons"), "(a)", "['train'].verdict.reasons"),
    (network_map_record, ("network", "primary", "train", "views"), "3", "$.network.primary['train'].views"),
    (network_map_record, ("source", "weights"), 3, "$.source.weights"),
    (trained_blocks_record, ("training", "lambdas"), {"a": 1}, "$.training.lambdas"),
    (diagnose_record, ("diagnosis", "budgets", 1, "budget"), None, "$.diagnosis.budgets[1].budget"),
    (diagnose_record, ("diagnosis", "undefended"), [[0.1]], "$.diagnosis.undefended"),
    (diagnose_record, ("diagnosis", "mu"), "many", "$.diagnosis.mu"),
    (sweep_record, ("pairs", 0), [0, 1], "$.pairs[0]"),
    (sweep_record, ("methods", "ill_only", "train"), {}, "$.methods['ill_only'].train"),
    (report_record, ("runs", 0, "claims"), "one", "$.runs[0].claims"),
]


@pytest.mark.parametrize(("record", "path", "value", "place"), WRONG, ids=[place for *_, place in WRONG])
def test_a_value_of_a_wrong_type_is_named_with_its_place(tmp_path, record, path, value, place):
    content = encode(record())
    holder = content
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    message = refusal(with_text(tmp_path, json.dumps(content)))
    assert "is damaged or incomplete (" in message
    assert f"{place}); make the run again" in message


def test_a_record_of_anything_is_written_and_read(tmp_path, rng):
    for command, kind in RECORDS.items():
        record = made(kind, rng)
        record = changed(record, "manifest", "command", to=command)
        record = changed(record, "manifest", "schema", to=SCHEMA)
        write_record(tmp_path, record)
        assert read_record(tmp_path) == record
