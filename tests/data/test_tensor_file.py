"""Safetensors files: what the library writes is read, and what is no such file is refused in one line."""

import json
import os
import struct

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load, save

from cimm_jax.data.tensor_file import MOST_HEADER_BYTES, open_tensors, tensors_to_bytes
from cimm_jax.errors import InputError
from cimm_jax.runs.defence import MapDefence

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(0, np.float64), "c": np.array(7.0)}


def read(path):
    with open_tensors(path, "weights", most=1 << 20, cure="download it again") as file:
        return {name: file.array(name) for name in file.tensors}


def raw(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def one(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}}


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32, np.float64])
def test_what_the_library_writes_is_read(tmp_path, dtype):
    tensors = {name: array.astype(dtype) for name, array in TENSORS.items()}
    (tmp_path / "w").write_bytes(save(tensors, {"format": "pt", "note": "x"}))
    found = read(tmp_path / "w")
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_a_file_with_metadata_is_the_same_each_time_and_read_by_the_library(tmp_path):
    tensors = {name: np.ascontiguousarray(array, np.float32) for name, array in TENSORS.items()}
    metadata = {"format": "pt", **{f"name {number}": f"text {number} é" for number in range(9)}}
    content = tensors_to_bytes(tensors, metadata)
    assert content == tensors_to_bytes(tensors, dict(reversed(metadata.items())))
    (tmp_path / "w").write_bytes(content)
    with safe_open(tmp_path / "w", "np") as file:
        assert file.metadata() == metadata
    for found in (load(content), read(tmp_path / "w")):
        assert found.keys() == tensors.keys()
        for name, array in tensors.items():
            np.testing.assert_array_equal(found[name], array)
    with open_tensors(tmp_path / "w", "weights", most=1 << 20, cure="download it again") as file:
        assert file.metadata == metadata


NO_FILE = {
    "empty": (b"", "0 bytes are too few"),
    "seven bytes": (b"\0" * 7, "7 bytes are too few"),
    "a pickle": (b"\x80\x02ctorch", "too few"),
    "another archive": (b"PK\x03\x04" + bytes(100), "its header has 67,324,752 bytes|too few"),
    "endless header": (struct.pack("<Q", 2**64 - 1) + bytes(100), "too few"),
    "no text": (raw(b"\xff\xfe"), "is no JSON"),
    "no JSON": (raw(b"{"), "is no JSON"),
    "deep": (raw(b"[" * 50_000), "is no JSON"),
    "a list": (raw([]), "names no tensors"),
    "metadata that are no texts": (raw({"__metadata__": {"a": 3}}), "its metadata are no texts"),
    "metadata that are a list": (raw({"__metadata__": []}), "its metadata are no texts"),
    "a number": (raw(3), "names no tensors"),
    "a number too long": (raw(b'{"a":' + b"9" * 5000 + b"}"), "is no JSON"),
    "twice": (raw(b'{"a":%b,"a":%b}' % ((json.dumps(one()["a"]).encode(),) * 2), bytes(8)), "names a twice"),
    "twice within": (
        raw(b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        "dtype twice",
    ),
    "no entry": (raw({"a": 3}), "dtype, shape and data_offsets of a"),
    "no shape": (raw({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)), "dtype, shape and data_offsets of a"),
    "three offsets": (raw(one(offsets=(0, 4, 8)), bytes(8)), "dtype, shape and data_offsets of a"),
    "shape of text": (raw(one(shape="2"), bytes(8)), "is no dtype, shape"),
    "negative": (raw(one(shape=(-2,)), bytes(8)), "is no dtype, shape"),
    "yes": (raw(one(shape=(True,), offsets=(0, 4)), bytes(4)), "is no dtype, shape"),
    "huge": (raw(one(shape=(2**62,)), bytes(8)), "is no dtype, shape"),
    "huge together": (raw(one(shape=(2**40,) * 30), bytes(8)), "a has 8 bytes, which are not F32"),
    "many axes": (raw(one(shape=(1,) * 100_000), bytes(8)), "is no dtype, shape"),
    "other size": (raw(one(shape=(3,)), bytes(8)), "a has 8 bytes, which are not F32 (3,)"),
    "backwards": (raw(one(offsets=(8, 0)), bytes(8)), "a has -8 bytes"),
    "hole": (raw(one(offsets=(8, 16)), bytes(16)), "a begins at byte 8, where the one before it ends at 0"),
    "overlap": (raw(one() | {"b": one()["a"]}, bytes(8)), "b begins at byte 0, where the one before it ends at 8"),
    "cut short": (raw(one(), bytes(7)), "and its header tells of"),
    "too long": (raw(one(), bytes(9)), "and its header tells of"),
}


@pytest.mark.parametrize("name", NO_FILE)
def test_what_is_no_whole_file_is_named_in_one_line(tmp_path, name):
    content, told = NO_FILE[name]
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(tmp_path / "w")
    message = str(caught.value)
    assert message.startswith(f"weights: {tmp_path}/w is no whole safetensors file (")
    assert message.endswith("; download it again")
    assert any(choice in message for choice in told.split("|"))


def test_a_header_has_a_bounded_size(tmp_path):
    with (tmp_path / "w").open("wb") as file:
        file.write(struct.pack("<Q", MOST_HEADER_BYTES + 1))
        file.truncate(MOST_HEADER_BYTES + 100)
    told = "its header has 16,777,217 bytes, of which at most 16,777,216 are read"
    with (
        pytest.raises(InputError, match=told),
        open_tensors(tmp_path / "w", "weights", most=1 << 30, cure="take another"),
    ):
        pass
    with pytest.raises(InputError, match="of which at most 1,048,576 are read"):
        read(tmp_path / "w")


def test_names_in_a_header_cannot_move_the_cursor_or_begin_a_line(tmp_path):
    (tmp_path / "w").write_bytes(raw({"\x1b[31ma\nb\u202e": 3}))
    with pytest.raises(InputError, match=r"of  \[31ma b \); download it again$"):
        read(tmp_path / "w")


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("pipe", "no regular file"), ("", "a folder"), ("none", "No such file")):
        with pytest.raises(InputError, match=rf"^weights: .* cannot be read \({reason}"):
            read(tmp_path / name)


# --- the map of a run ---


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32, np.float64])
def test_a_map_is_read_in_float64(tmp_path, dtype):
    (tmp_path / "theta.safetensors").write_bytes(save({"theta": np.eye(3, dtype=np.float32).astype(dtype)}))
    theta = MapDefence.read("a", tmp_path).theta
    assert theta.dtype == np.float64
    np.testing.assert_array_equal(theta, np.eye(3))


def theta_header(dtype, size, shape=(2, 2)):
    return raw({"theta": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}, bytes(size))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (save({"other": np.eye(3)}), "has nothing as theta, which needs floats (d, d)"),
        (save({"theta": np.eye(3)[0]}), "has F64 (3,) as theta"),
        (save({"theta": np.eye(3)[:2].copy()}), "has F64 (2, 3) as theta"),
        (save({"theta": np.eye(3, dtype=np.int32)}), "has I32 (3, 3) as theta"),
        (theta_header("F8_E4M3", 4), "has F8_E4M3 (2, 2) as theta"),
        (theta_header("F8_E8M0", 4), "has F8_E8M0 (2, 2) as theta"),
        (theta_header("C64", 32), "has C64 (2, 2) as theta"),
        (theta_header("nonsense", 3), "has nonsense (2, 2) as theta"),
        (save({"theta": np.array([[1.0, np.nan], [0, 1]])}), "numbers in theta that are not finite"),
        (save({"theta": np.array([[np.inf, 0], [0, 1]], np.float16)}), "numbers in theta that are not finite"),
        (b"", "is no whole safetensors file"),
    ],
)
def test_what_is_no_finite_square_map_is_refused(tmp_path, content, told):
    (tmp_path / "theta.safetensors").write_bytes(content)
    with pytest.raises(InputError) as caught:
        MapDefence.read("a", tmp_path)
    message = str(caught.value)
    assert message.startswith(f"runs: {tmp_path}/theta.safetensors ")
    assert told in message
    assert message.endswith("; immunize again")
