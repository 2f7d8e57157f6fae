"""Texts from folders and scikit-learn: classes, lengths, what is cut, damage."""

import urllib.error
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from data.text_examples import VOCABULARY, WordTokenizer, sentences, write_texts

from cimm_jax.data import text_tokens
from cimm_jax.data.class_list import ClassList
from cimm_jax.data.reserved import chosen_images
from cimm_jax.data.text_folder import load_text_folder
from cimm_jax.data.text_sources import NEWSGROUPS, load_texts, of_one_length
from cimm_jax.data.text_tokens import PADDING, padded_length
from cimm_jax.errors import InputError

TOKENIZER = Path("tokenizer.json")


@pytest.fixture(autouse=True)
def tokenizer(monkeypatch):
    monkeypatch.setattr(text_tokens, "_tokenizer", lambda path: WordTokenizer())


def load(source, **more):
    given = {"tokenizer": TOKENIZER, "length": 20, "vocabulary": VOCABULARY, "special": True, **more}
    return load_texts(str(source), **given)


def test_texts_of_every_form_are_the_same_texts(tmp_path):
    texts = {name: sentences(name, 4, 0) for name in ("ant", "bee")}
    for name, of in texts.items():
        (tmp_path / "folders" / "train" / name).mkdir(parents=True)
        for number, text in enumerate(of):
            (tmp_path / "folders" / "train" / name / f"{number}.txt").write_text(text)
        (tmp_path / "lines").mkdir(exist_ok=True)
        (tmp_path / "lines" / f"{name}.txt").write_text("\n\n".join(of) + "\r\n", encoding="utf-8-sig")
        (tmp_path / "json").mkdir(exist_ok=True)
        (tmp_path / "json" / f"{name}.jsonl").write_text("\n".join(f'"{text}"' for text in of))
    found = {form: load_text_folder(tmp_path / form).train for form in ("folders", "lines", "json")}
    for form, part in found.items():
        assert part.classes == ("ant", "bee"), form
        assert [text.strip() for text in part.texts] == [*texts["ant"], *texts["bee"]], form
        assert part.labels.tolist() == [0] * 4 + [1] * 4
    assert len({load(tmp_path / form).train.sha256 for form in found}) == 1


def test_ids_are_cut_counted_and_padded_to_one_length(tmp_path):
    folder = write_texts(tmp_path / "texts", ("ant", "bee"), count=3)
    long = write_texts(tmp_path / "long", ("bee", "cat"), count=3)
    (long / "train" / "cat.jsonl").write_text('"' + "milk " * 30 + '"\n{"text": "paw"}')
    one, other = load(folder), load(long)
    assert one.train.cut_short.tolist() == [False] * 6
    assert other.train.cut_short.tolist() == [False] * 3 + [True, False]
    assert chosen_images(other.train, np.asarray([3])).cut_short.tolist() == [True]
    (batch,) = one.train.batches(6)
    assert (batch.dtype, batch.shape) == (np.int32, (6, 16))
    tasks = of_one_length({"primary": one, "harmful": other})
    (batch,) = tasks["primary"].train.batches(6)
    assert batch.shape == (6, 20)
    assert (batch[:, 0] == 0).all(), "what begins a text"
    assert ((batch == PADDING).sum(1) == 12).all()
    (batch,) = tasks["harmful"].train.batches(5)
    assert [(row != PADDING).sum() for row in batch] == [8, 8, 8, 20, 2]
    alone = of_one_length({"primary": one})["primary"].train
    assert alone.pixels.length == 16
    assert tasks["primary"].train.sha256 != alone.sha256, "rows of another length are other arrays"
    assert load(folder, special=False).train.sha256 != one.train.sha256


def test_lengths_are_few():
    assert [padded_length(longest, 200) for longest in (0, 16, 17, 100, 128, 129, 500)] == [
        16,
        16,
        32,
        128,
        128,
        200,
        200,
    ]


def test_some_of_the_classes_in_the_order_of_their_names(tmp_path):
    folder = write_texts(tmp_path / "texts", ("ant", "bee", "cat"), count=2)
    found = load(folder, only=ClassList(("cat", "ant"))).train
    assert (found.classes, found.labels.tolist()) == (("cat", "ant"), [1, 1, 0, 0])
    with pytest.raises(InputError, match="dog unknown; choose among ant, bee, cat"):
        load(folder, only=ClassList(("cat", "dog")))


def test_what_has_no_text_is_skipped_and_counted_or_refused(tmp_path):
    folder = write_texts(tmp_path / "texts", ("ant", "bee"), count=2)
    (folder / "train" / "ant.jsonl").write_text('"leg"\n" "')
    assert load(folder).train.skipped == ("ant.jsonl:2: empty",)
    with pytest.raises(InputError, match=r"ant\.jsonl:2 is empty; fill it, or leave it out"):
        load(folder, strict=True)


DAMAGED = {
    "a file that is not UTF-8": (
        {"train/ant.txt": b"leg\nhill \xff queen"},
        r"texts: .*train/ant\.txt is not UTF-8 \(byte 0xff at 9\); save it as UTF-8",
    ),
    "no JSON": ({"train/ant.jsonl": b'"leg"\n{'}, r"ant\.jsonl:2 is no JSON; write a string"),
    "JSON without a text": ({"train/ant.jsonl": b'{"text": 3}'}, r"ant\.jsonl:1 has no text; write a string"),
    "a class in two places": ({"train/ant.txt": b"a", "train/ant.jsonl": b'"a"'}, "are of one class"),
    "a class without a text": ({"train/ant.txt": b"\n \n", "train/bee.txt": b"a"}, "train has no text of ant; add one"),
    "other classes in test": (
        {"train/ant.txt": b"a", "train/bee.txt": b"a", "test/ant.txt": b"a"},
        "test and train differ: missing bee, surplus none",
    ),
    "nothing": ({"notes.md": b""}, "has no classes; give a folder with train/CLASS"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_is_one_message(tmp_path, damage):
    files, message = DAMAGED[damage]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_what_is_no_folder_or_of_another_tokenizer_or_too_few_is_one_message(tmp_path):
    with pytest.raises(InputError, match=r"texts: .*nowhere is not a folder; give one with train/CLASS"):
        load(tmp_path / "nowhere")
    folder = write_texts(tmp_path / "texts", ("ant", "bee"), count=2)
    with pytest.raises(InputError, match=r"has token .*, and the network knows 3 tokens; give the tokenizer"):
        load(folder, vocabulary=3)
    with pytest.raises(InputError, match=r"image_rows: .* is a folder of texts, which is taken whole"):
        load(folder, rows=5)
    with pytest.raises(InputError, match="image_rows: needs at least 2, got 1"):
        load(NEWSGROUPS, rows=1)


def test_the_newsgroups_are_scikit_learns_without_what_tells_them(monkeypatch):
    asked = []

    def fetch(subset, remove):
        asked.append((subset, remove))
        return SimpleNamespace(data=["leg", " \n", "hive"], target=[0, 1, 1], target_names=["ant", "bee"])

    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups", fetch)
    train, heldout = load(NEWSGROUPS)
    assert [subset for subset, _ in asked] == ["train", "test"]
    assert {remove for _, remove in asked} == {("headers", "footers", "quotes")}
    assert (train.classes, train.labels.tolist(), train.skipped) == (("ant", "bee"), [0, 1], ("train 1: empty",))
    assert len(heldout) == 2
    with pytest.raises(InputError, match="train 1: empty"):
        load(NEWSGROUPS, strict=True)

    def unreachable(**_):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups", unreachable)
    with pytest.raises(
        InputError, match=r"cannot download the 20 newsgroups \(.*no route.*\); connect to a network, put"
    ):
        load(NEWSGROUPS)
