"""What may have happened to a file: bits turned, cut short, spliced with another, numbers in its header replaced; seeded."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Damage = Callable[[bytes, np.random.Generator], bytes]

HEADER = 512
"""Bytes at each end of a file where most formats say what they hold."""

EXTREMES = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    2**40,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
)

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3, 2**31, 2**63, 10**30, 10**400, 0.5, -1e308, 1e-320),
    *("", "NaN", "Infinity", "-Infinity", "x" * 300, "<b>\n\x1b[31m", "\u202e", "../../etc", "/dev/zero", "keep"),
    *([], {}, [[]], [None], ["NaN", 1], [[1, 2], [3]], {"": {}}, {"a": 1}),
)
"""What may stand anywhere in JSON."""

WORDS = (
    b"inf",
    b"-inf",
    b"nan",
    b"1e999",
    b"1e200",
    b"9" * 400,
    b"",
    b'"',
    b"\0",
    b"\xff",
    b",",
    b"\n",
    b"\r",
    b"0x10",
    b"RL",
)
"""What may stand anywhere in a table."""

HOSTILE_HEADERS = (
    "{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 32, 32, 3), }",
    "{'descr': '%s', 'fortran_order': False, 'shape': (4,), }",
    "{'descr': [('a', '<f4'), ('b', '%s')], 'fortran_order': True, 'shape': (4,), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (4,), }%.0s",
    "{'descr': '<i8', 'fortran_order': %s, 'shape': (), }",
    "(((((((((((%s",
)


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    """A few bits turned, anywhere or at the ends."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        if changed:
            changed[_place(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    """The beginning, the end, or all but a piece in between."""
    first, last = sorted(int(rng.integers(len(content) + 1)) for _ in range(2))
    return (content[:first], content[last:], content[:first] + content[last:])[rng.integers(3)]


def grown(content: bytes, rng: np.random.Generator) -> bytes:
    """Something more at the end, at the beginning or in between, random or repeated."""
    more = (rng.bytes(rng.integers(1, 64)), bytes(rng.integers(1, 5000)), content)[rng.integers(3)]
    place = (0, len(content), _place(content, rng))[rng.integers(3)]
    return content[:place] + more + content[place:]


def renumbered(content: bytes, rng: np.random.Generator) -> bytes:
    """A number of the header is an extreme one."""
    size, order = int(rng.choice([1, 2, 4, 8])), ("little", "big")[rng.integers(2)]
    value = int(rng.choice(np.array(EXTREMES, object))) % (1 << 8 * size)
    place = _place(content, rng)
    return content[:place] + value.to_bytes(size, order) + content[place + size :]


def shuffled(content: bytes, rng: np.random.Generator) -> bytes:
    """A piece of it in another place."""
    length = int(rng.integers(1, 65))
    source, place = _place(content, rng), _place(content, rng)
    return content[:place] + content[source : source + length] + content[place + length :]


def random(content: bytes, rng: np.random.Generator) -> bytes:
    """Nothing of it."""
    return (b"", rng.bytes(rng.integers(1, 2000)), bytes(rng.integers(1, 2000)))[rng.integers(3)]


def spliced_with(others: Sequence[bytes]) -> Damage:
    """The header of one, and the rest of another."""

    def spliced(content: bytes, rng: np.random.Generator) -> bytes:
        other, place = others[rng.integers(len(others))], int(rng.integers(1, 200))
        return other[:place] + content[place:] if rng.integers(2) else content[:place] + other[place:]

    return spliced


def rewritten(content: bytes, rng: np.random.Generator) -> bytes:
    """JSON of which something is another thing, missing, surplus or very deep."""
    return json.dumps(_rewritten(json.loads(content), rng)).encode()


def reworded(content: bytes, rng: np.random.Generator) -> bytes:
    """A table with other entries, or other rows."""
    rows = [line.split(b",") for line in content.split(b"\n")]
    for _ in range(rng.integers(1, 4)):
        row = rows[rng.integers(len(rows) if rng.integers(3) else 1)]
        row[rng.integers(len(row))] = WORDS[rng.integers(len(WORDS))]
    if rng.integers(5) == 0:
        first, last = sorted(rng.integers(0, len(rows), 2))
        rows[first:last] = rows[first:last][:: rng.choice([-1, 2])]
    return b"\n".join(b",".join(row) for row in rows)


def with_other_header(content: bytes, rng: np.random.Generator) -> bytes:
    """A safetensors file whose header says something else, in as many bytes as it needs."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(_rewritten(json.loads(content[8 : 8 + length]), rng))
    if rng.integers(4) == 0:
        header = header.replace(
            *[('"F32"', '"F64"'), ('"F32"', '"F8_E5M2"'), ('"F32"', '"C64"'), ("[0,", "[1,")][rng.integers(4)]
        )
    if rng.integers(8) == 0:
        header = header[:-1] + "," + header[1:]  # every name twice
    return struct.pack("<Q", len(header.encode())) + header.encode() + content[8 + length :]


def with_other_numbers(content: bytes, rng: np.random.Generator) -> bytes:
    """A safetensors file with other data."""
    length = 8 + int.from_bytes(content[:8], "little")
    data = np.frombuffer(content[length:], np.float32).copy()
    data[rng.integers(len(data), size=3)] = rng.choice([np.nan, np.inf, -np.inf, -1, 3e38, 1e-45], 3)
    return content[:length] + data.tobytes()


def rearchived(content: bytes, rng: np.random.Generator) -> bytes:
    """An archive whose members are damaged, and whose check values are right."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    name = list(members)[rng.integers(len(members))]
    if rng.integers(2):
        members[name] = (flipped, cut, grown, renumbered, shuffled, random)[rng.integers(6)](members[name], rng)
    else:
        text = HOSTILE_HEADERS[rng.integers(len(HOSTILE_HEADERS))]
        value = (
            int(rng.choice(np.array(EXTREMES, object)))
            if "%d" in text
            else rng.choice(["<c16", "|O", "<U9", "nope", "", "<f8"])
        )
        header = (text % value).encode()
        members[name] = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + members[name][128:]
    if rng.integers(4) == 0:
        del members[list(members)[rng.integers(len(members))]]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[rng.integers(2)]) as file:
        for key, member in members.items():
            file.writestr(key, member)
    return archive.getvalue()


def rechecked(content: bytes, rng: np.random.Generator) -> bytes:
    """A PNG with a damaged chunk whose check value is right, so that it is believed."""
    chunks, place = [], 8
    while place + 8 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    chosen = int(rng.integers(len(chunks)))
    name, data = chunks[chosen]
    chunks[chosen] = name, (flipped, renumbered, cut)[rng.integers(3)](data, rng) if data else rng.bytes(4)
    made = [content[:8]]
    for name, data in chunks:
        made.append(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))
    return b"".join(made)


ANYWHERE: tuple[Damage, ...] = (flipped, flipped, cut, grown, renumbered, renumbered, shuffled, random)


def _place(content: bytes, rng: np.random.Generator) -> int:
    if not content:
        return 0
    length = len(content)
    ends = [
        int(rng.integers(length)),
        int(rng.integers(min(length, HEADER))),
        length - 1 - int(rng.integers(min(length, HEADER))),
    ]
    return ends[rng.integers(3)]


def _rewritten(value: Any, rng: np.random.Generator) -> Any:
    """Walks down to some place, and changes what is there."""
    if isinstance(value, dict | list) and value and rng.integers(8):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = list(keys)[rng.integers(len(value))]
        changed = value.copy()
        changed[key] = _rewritten(value[key], rng)
        return changed
    if isinstance(value, dict) and value and rng.integers(2):
        key = list(value)[rng.integers(len(value))]
        rest = {other: item for other, item in value.items() if other != key}
        return ({**rest}, {**value, "more": 1}, {**rest, VALUES[13 + rng.integers(10)]: value[key]})[rng.integers(3)]
    if isinstance(value, list) and value and rng.integers(2):
        return (value[:-1], [*value, value[0]], [value], value[::-1])[rng.integers(4)]
    if rng.integers(30) == 0:
        deep: Any = 1
        for _ in range(300):
            deep = [deep]
        return deep
    return VALUES[rng.integers(len(VALUES))]
