"""Records written and read back: nothing is lost, whatever is in them, and what does not fit is named in one line."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

import jax
import numpy as np
import pytest
from generated import alternatives, fields_of, made
from sample_records import report_record, shown_records

from cimm_jax import InputError
from cimm_jax.runs.codec import decode, encode
from cimm_jax.runs.records import RECORDS, Manifest, Record

SAMPLES = [*shown_records(), report_record()]
SEEDS = 50


def through_json(record: Record) -> Any:
    return json.loads(json.dumps(encode(record), allow_nan=False))


def check_alike(one: Any, other: Any, hint: Any, place: str) -> None:
    """Type by type, so that it does not lean on the codec's own comparison; what may be anything comes back as JSON has it."""
    if hint is Any:
        assert encode({"a": one}) == encode({"a": other}), place
        return
    if isinstance(one, np.ndarray | jax.Array):
        assert isinstance(other, np.ndarray), place
        assert (other.shape, other.dtype.kind) == (one.shape, one.dtype.kind), place
        np.testing.assert_array_equal(np.asarray(one), other, err_msg=place)
        return
    assert type(one) is type(other), (place, one, other)
    if named := fields_of(type(one)):
        for name, of in named.items():
            check_alike(getattr(one, name), getattr(other, name), of, f"{place}.{name}")
    elif isinstance(one, dict):
        assert list(one) == list(other), place
        inner = next(get_args(of)[1] for of in alternatives(hint) if get_origin(of) is dict)
        for key in one:
            check_alike(one[key], other[key], inner, f"{place}[{key!r}]")
    elif isinstance(one, tuple):
        assert len(one) == len(other), place
        for number, pair in enumerate(zip(one, other, strict=True)):
            check_alike(*pair, None, f"{place}[{number}]")
    elif isinstance(one, float):
        np.testing.assert_array_equal(one, other, err_msg=place)
    else:
        assert one == other, place


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_samples_come_back_as_they_were(record):
    back = decode(type(record), through_json(record))
    assert back == record
    assert encode(back) == encode(record)


@pytest.mark.parametrize("kind", RECORDS.values(), ids=list(RECORDS))
def test_records_with_anything_in_them_come_back_as_they_were(kind):
    for seed in range(SEEDS):
        record = made(kind, np.random.default_rng(seed))
        back = decode(kind, through_json(record))
        check_alike(record, back, kind, f"{kind.__name__} {seed}")
        assert back == record


@pytest.mark.parametrize("kind", RECORDS.values(), ids=list(RECORDS))
def test_records_that_differ_are_not_equal(kind):
    one, other = (made(kind, np.random.default_rng(seed)) for seed in (0, 1))
    assert one != other


def test_equality_takes_a_number_that_is_none_for_another():
    manifest = Manifest(3, "attack", "", {"rate": float("nan")}, {}, {})
    assert Record(manifest) == Record(Manifest(3, "attack", "", {"rate": float("nan")}, {}, {}))
    assert Record(manifest) != Record(Manifest(3, "attack", "", {"rate": 1.0}, {}, {}))
    assert Record(manifest) != manifest


class Place(NamedTuple):
    """Where something stands in encoded data, as keys and as messages write it, and its type."""

    path: tuple
    written: str
    hint: Any

    def inner(self, step: str | int, hint: Any, *, named: bool = False) -> "Place":
        return Place((*self.path, step), f"{self.written}.{step}" if named else f"{self.written}[{step!r}]", hint)


def places(data: Any, of: Place) -> Iterator[Place]:
    """Every place in encoded data, but of lists the first alone."""
    yield of
    kinds = [kind for kind in alternatives(of.hint) if kind is not type(None)]
    if isinstance(data, dict):
        kind = next((kind for kind in kinds if set(fields_of(kind)) == set(data)), kinds[0])
        named = fields_of(kind)
        for name, item in data.items():
            hint = named[name] if named else Any if kind is Any else get_args(kind)[1]
            yield from places(item, of.inner(name, hint, named=bool(named)))
    elif isinstance(data, list) and get_origin(kinds[0]) is tuple:
        for item in data[:1]:
            yield from places(item, of.inner(0, get_args(kinds[0])[0]))


def at(data: Any, path: Sequence) -> Any:
    for step in path:
        data = data[step]
    return data


def refusal(kind: type, data: Any) -> str:
    with pytest.raises(InputError) as caught:
        decode(kind, data)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    assert "Traceback" not in message
    return message


WRONG = {int: "1", bool: 1, str: 1, float: "1", Path: 1, np.ndarray: ["x"], jax.Array: [None, 1.0]}


def wrong_for(hint: Any) -> Any:
    """What is not of the type: text for a structure or a number, a number for text."""
    kind = next(kind for kind in alternatives(hint) if kind is not type(None))
    return True if hint == float | str else WRONG.get(kind, "text")


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_what_does_not_fit_is_refused_wherever_it_is(record):
    kind, data = type(record), through_json(record)
    checked = set()
    for place in places(data, Place((), "$", kind)):
        last = place.path[-1] if place.path else None
        if last is None or place.hint is Any or (str(place.hint), last) in checked:
            continue
        holder = at(data, place.path[:-1])
        former, holder[last] = holder[last], wrong_for(place.hint)
        message = refusal(kind, data)
        assert message.startswith(("needs ", "expected a mapping")), message
        # A fixed number of items is read without counting them.
        assert message.endswith(f" @ {place.written}") or last == 0, message
        holder[last] = former
        checked.add((str(place.hint), last))
    assert decode(kind, data) == record


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_missing_and_surplus_fields_are_named(record):
    kind, data = type(record), through_json(record)
    checked = set()
    for place in places(data, Place((), "$", kind)):
        holder = at(data, place.path)
        if (
            str(place.hint) in checked
            or not isinstance(holder, dict)
            or not any(map(fields_of, alternatives(place.hint)))
        ):
            continue
        checked.add(str(place.hint))
        holder["surplus"] = 1
        assert refusal(kind, data) == f"has an unknown surplus @ {place.written}"
        del holder["surplus"]
        whole = dict(holder)
        for name, value in whole.items():
            del holder[name]
            assert refusal(kind, data) == f"lacks {name} @ {place.written}"
            holder[name] = value
    assert decode(kind, data) == record


@pytest.mark.parametrize("data", [None, [], "text", 1, True, {}])
def test_what_is_no_record_at_all_is_refused(data):
    for kind in RECORDS.values():
        refusal(kind, data)
