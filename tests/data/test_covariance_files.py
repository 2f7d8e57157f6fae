"""Sums in files and over files: interrupted, they go on; what does not belong together is refused."""

import os

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cimm_jax.data import covariance_files, covariance_of_files, load_covariance_sum, save_covariance_sum
from cimm_jax.errors import InputError
from cimm_jax.numerics.covariance_sums import CovarianceSum


@pytest.fixture
def files(tmp_path):
    """Four files of float32 features, and all of their rows."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((7 + number, 3)).astype(np.float32) for number in range(4)]
    places = [tmp_path / f"part{number}.npy" for number in range(4)]
    for place, array in zip(places, arrays, strict=True):
        np.save(place, array)
    return places


def rows_of(files):
    return np.concatenate([np.load(file) for file in files]).astype(np.float64)


def test_a_sum_comes_back_as_it_was_written(tmp_path, rng):
    total = CovarianceSum(4)
    total.update(rng.standard_normal((9, 4)))
    save_covariance_sum(tmp_path / "sum", total)
    found = load_covariance_sum(tmp_path / "sum")
    np.testing.assert_array_equal(found.value(), total.value())
    assert found.rows == 9
    np.testing.assert_array_equal(load_file(tmp_path / "sum")["sum"], total.value())


@pytest.mark.parametrize("save_every", [0, 1000])
@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_what_is_cut_off_goes_on_with_the_next_file(files, tmp_path, monkeypatch, error, save_every):
    whole = covariance_of_files(files, tmp_path / "whole")
    x = rows_of(files)
    np.testing.assert_allclose(whole.value(), x.T @ x, rtol=1e-13)
    read, read_features = [], covariance_files.read_features

    def interrupted(path, argument):
        if path == files[2]:
            raise error("now")
        return read_features(path, argument)

    def watched(path, argument):
        read.append(path)
        return read_features(path, argument)

    monkeypatch.setattr(covariance_files, "read_features", interrupted)
    with pytest.raises(error):
        covariance_of_files(files, tmp_path / "state", save_every=save_every)
    first = load_covariance_sum(tmp_path / "state")
    assert first.rows == 7 + 8
    monkeypatch.setattr(covariance_files, "read_features", watched)
    found = covariance_of_files(files, tmp_path / "state")
    assert read == files[2:]
    np.testing.assert_array_equal(found.value(), whole.value())
    assert load_covariance_sum(tmp_path / "state").rows == found.rows == len(x)
    assert covariance_of_files(files, tmp_path / "state").rows == len(x)
    assert read == files[2:]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(file.name for file in files), "state", "whole"]


def test_machines_sum_some_of_the_files_each(files, tmp_path):
    parts = [covariance_of_files(files[:3], tmp_path / "a"), covariance_of_files(files[3:], tmp_path / "b")]
    stored = load_covariance_sum(tmp_path / "a").merged(load_covariance_sum(tmp_path / "b"))
    np.testing.assert_array_equal(stored.value(), parts[0].merged(parts[1]).value())
    np.testing.assert_array_equal(stored.value(), covariance_of_files(files, tmp_path / "whole").value())


def later(files):
    np.save(files[1], np.ones((8, 3), np.float32))
    os.utime(files[1], ns=(1, 1))
    return files


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda files: files[1:], r"^state: .*state is a sum of other files: files\[0\], part0.npy, is part1.npy"),
        (lambda files: files[:1], "^state: .*state is a sum of part1.npy, too"),
        (later, r"^state: .* files\[1\], part1.npy, was changed since"),
        (lambda files: [], "^files: is empty"),
        (lambda files: [*files, files[0].parent], "^files: .* is a folder"),
        (lambda files: [*files, files[0].with_name("missing.npy")], "^files: .*missing.npy cannot be read"),
    ],
)
def test_other_files_are_refused(files, tmp_path, changed, message):
    covariance_of_files(files[:2], tmp_path / "state")
    before = (tmp_path / "state").read_bytes()
    with pytest.raises(InputError, match=message):
        covariance_of_files(changed(files), tmp_path / "state")
    assert (tmp_path / "state").read_bytes() == before


@pytest.mark.parametrize(
    ("array", "message"),
    [(np.ones((2, 4)), "has 4 features and those before it 3"), (np.full((2, 3), np.nan), "has nan in row 1")],
)
def test_a_file_that_does_not_fit_is_named_and_those_before_it_are_kept(files, tmp_path, array, message):
    np.save(files[1], array)
    with pytest.raises(InputError, match=f"^files: .*part1.npy {message}"):
        covariance_of_files(files, tmp_path / "state")
    assert load_covariance_sum(tmp_path / "state").rows == 7


def test_what_is_no_sum_is_refused(files, tmp_path, rng):
    state = tmp_path / "state"
    total = covariance_of_files(files[:1], state)
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    with pytest.raises(InputError, match=r"^path: .*state is damaged: its numbers are not those that were written"):
        load_covariance_sum(state)
    with pytest.raises(InputError, match=r"^state: .*state is damaged"):
        covariance_of_files(files, state)
    save_covariance_sum(state, total)
    with pytest.raises(InputError, match=r"^state: .*state is no sum over files"):
        covariance_of_files(files, state)
    save_file({"sum": total.value()}, state)
    with pytest.raises(InputError, match=r"^path: .*state holds no sum"):
        load_covariance_sum(state)
    state.write_bytes(content[:-8])
    with pytest.raises(InputError, match=r"^path: .*state is no whole safetensors file"):
        load_covariance_sum(state)
    with pytest.raises(InputError, match=r"^path: .*missing cannot be read"):
        load_covariance_sum(tmp_path / "missing")
