"""TensorFlow Datasets as image sets: a small data set, really prepared as ArrayRecord, and read without TensorFlow."""

import io
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from cimm_jax.data import image_decoding, image_tfds
from cimm_jax.data.class_list import ClassList
from cimm_jax.data.image_sources import load_images
from cimm_jax.errors import InputError

NAMES = ["ant", "bee", "cat"]
COUNTS = {"train": 7, "test": 4, "validation": 3}


def png(red, size=(12, 10)):
    file = io.BytesIO()
    Image.new("RGB", size, (red, 0, 9)).save(file, "png")
    file.seek(0)
    return file


class TinyPhotos(tfds.core.GeneratorBasedBuilder):
    """Image number i of a split is of class i mod 3, and 10 i red."""

    VERSION = tfds.core.Version("1.2.0")
    code_path = None  # downloads nothing, so nobody need look beside the code for checksums
    parts = COUNTS

    def _info(self):
        image, label = tfds.features.Image(shape=(None, None, 3)), tfds.features.ClassLabel(names=NAMES)
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict({"image": image, "label": label})
        )

    def _split_generators(self, dl_manager):
        return {part: self._generate_examples(count) for part, count in self.parts.items()}

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"image": png(10 * i), "label": i % 3}


class TinyDamaged(TinyPhotos):
    """One training image is none."""

    def _generate_examples(self, count):
        for i, example in super()._generate_examples(count):
            yield (
                i,
                example | ({"image": io.BytesIO(png(0).read()[:40])} if i == 1 and count == COUNTS["train"] else {}),
            )


class TinyTurned(TinyPhotos):
    """Images that lie on their side."""

    def _generate_examples(self, count):
        for i in range(count):
            exif, file = Image.Exif(), io.BytesIO()
            exif[274] = 6
            Image.open(png(10 * i)).save(file, "png", exif=exif)
            file.seek(0)
            yield i, {"image": file, "label": i % 3}


class TinyTest(TinyPhotos):
    """Has nothing to train on."""

    parts = {"test": 4}  # noqa: RUF012


class TinySounds(TinyPhotos):
    """Has no images."""

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"sound": tfds.features.Text()}))

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"sound": str(i)}


def prepare(builder, folder):
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    builder(data_dir=folder, file_format="array_record").download_and_prepare(download_config=config)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepare(TinyPhotos, folder)
    return folder


@pytest.fixture
def source(prepared):
    return f"tfds:tiny_photos@{prepared}"


def everything(images):
    return np.concatenate(list(images.batches(2)))


def test_images_and_labels_belong_together_in_a_fixed_order(source):
    train, heldout = load_images(source, size=8)
    assert train.classes == tuple(NAMES)
    pixels = everything(train)
    assert pixels.shape == (7, 8, 8, 3)
    assert pixels.dtype == np.uint8
    reds = pixels[:, 4, 4, 0] // 10
    assert sorted(reds) == list(range(7))
    assert (reds % 3 == train.labels).all()
    assert (everything(load_images(source, size=8).train) == pixels).all()
    with train.pixels.original(0) as original:
        assert original.shape == (10, 12, 3)
    assert heldout is not None
    assert len(heldout) == COUNTS["validation"], "rather than the test split, whose labels may not be public"


def test_rows_and_classes_are_chosen(source):
    every = load_images(source, size=8).train
    first = load_images(source, size=8, image_rows=3).train
    assert first.labels.tolist() == every.labels[:3].tolist()
    chosen = load_images(source, size=8, only=ClassList(("cat", "ant"))).train
    assert chosen.classes == ("cat", "ant")
    reds = everything(chosen)[:, 0, 0, 0] // 10
    assert sorted(reds) == [0, 2, 3, 5, 6]
    assert chosen.labels.tolist() == [0 if red % 3 == 2 else 1 for red in reds]


def test_the_checksum_knows_version_files_and_choice(source, prepared, tmp_path):
    before = load_images(source, size=8)
    assert load_images(source, size=8).train.sha256 == before.train.sha256
    assert before.train.sha256 != before.heldout.sha256
    assert load_images(source, size=8, image_rows=6).train.sha256 != before.train.sha256
    copy = shutil.copytree(prepared / "tiny_photos/1.2.0", tmp_path / "tiny_photos/1.2.0")
    assert load_images(f"tfds:tiny_photos@{tmp_path}", size=8).train.sha256 == before.train.sha256
    info = tfds.builder("tiny_photos", data_dir=tmp_path).info
    identity = image_tfds._identity(info, "train")
    with next(copy.glob("*-train*")).open("ab") as file:
        file.write(b"more")
    assert image_tfds._identity(info, "train") != identity


def test_a_version_may_be_named_and_the_folder_come_from_the_environment(prepared):
    program = (
        "import sys; from cimm_jax.data.image_sources import load_images; "
        "print(len(load_images('tfds:tiny_photos:1.2.0', size=8).train), 'tensorflow' in sys.modules)"
    )
    env = {"TFDS_DATA_DIR": str(prepared), "PATH": ""}
    result = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["7", "False"], "without the code that prepared it, and without TensorFlow"


def test_a_published_data_set_has_the_names_of_its_classes(prepared, tmp_path):
    folder = tmp_path / "cars196/2.1.0"
    folder.mkdir(parents=True)
    for path in (prepared / "tiny_photos/1.2.0").iterdir():
        content = path.read_bytes()
        if path.suffix == ".json":
            content = content.replace(b"tiny_photos", b"cars196").replace(b"1.2.0", b"2.1.0")
        (folder / path.name.replace("tiny_photos", "cars196")).write_bytes(content)
    train = load_images(f"tfds:cars196@{tmp_path}", size=8, image_rows=5).train
    assert len(train.classes) == 196
    assert train.classes[1] == "Acura RL Sedan 2012"
    assert everything(train).shape == (5, 8, 8, 3)


def test_what_is_not_there_is_refused(prepared, tmp_path):
    for name, named in (("nonsense_photos", "cannot open nonsense_photos"), ("", "no name")):
        with pytest.raises(InputError, match=f"images: .*{named}"):
            load_images(f"tfds:{name}@{prepared}", size=8)
    how = f'file_format="array_record", data_dir="{tmp_path}"'
    for name in ("tiny_photos", "cars196"):
        with pytest.raises(InputError, match=rf"images: {name} is not prepared .*{how}.*download_and_prepare"):
            load_images(f"tfds:{name}@{tmp_path}", size=8)
    description = shutil.copytree(prepared / "tiny_photos/1.2.0", tmp_path / "tiny_photos/1.2.0") / "dataset_info.json"
    description.write_text(description.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(InputError, match=f"another format; .*{how}"):
        load_images(f"tfds:tiny_photos@{tmp_path}", size=8)


def test_damaged_records_are_skipped_and_counted_or_refused(tmp_path):
    prepare(TinyDamaged, tmp_path)
    source = f"tfds:tiny_damaged@{tmp_path}"
    train, heldout = load_images(source, size=8)
    assert (len(train), len(train.skipped)) == (6, 1)
    assert "record" in train.skipped[0]
    assert heldout is not None
    assert not heldout.skipped
    reds = everything(train)[:, 4, 4, 0] // 10
    assert sorted(reds) == [0, 2, 3, 4, 5, 6]
    assert (reds % 3 == train.labels).all(), "labels went with their images"
    with pytest.raises(InputError, match=r"record \d cannot be decoded"):
        load_images(source, size=8, strict=True)


def test_a_damaged_file_of_records_is_named(prepared, tmp_path):
    copy = shutil.copytree(prepared / "tiny_photos/1.2.0", tmp_path / "tiny_photos/1.2.0")
    path = next(copy.glob("*-train*"))
    whole = path.read_bytes()
    place = len(whole) - len(whole.lstrip(b"\0")) + 200
    for content in (b"", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"images: tiny_photos cannot be read .*download_and_prepare"):
            load_images(f"tfds:tiny_photos@{tmp_path}", size=8)
    path.write_bytes(whole[:place] + bytes(byte ^ 255 for byte in whole[place : place + 2000]) + whole[place + 2000 :])
    with pytest.raises(InputError, match="images: "):
        load_images(f"tfds:tiny_photos@{tmp_path}", size=8)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="is missing or no regular file"):
        load_images(f"tfds:tiny_photos@{tmp_path}", size=8)


@pytest.mark.parametrize(
    "name", ["huggingface:a/b", "kaggle:c", "owner:photos", "../photos", "a b", "x:1.0.0:2.0.0", "caf\udce9"]
)
def test_a_name_that_would_fetch_and_run_what_somebody_keeps_is_refused(monkeypatch, name):
    monkeypatch.setattr(tfds, "builder", lambda *a, **k: pytest.fail("asked"))
    with pytest.raises(InputError, match=r"images: .* is no (data set|name)"):
        load_images(f"tfds:{name}", size=8)


def test_turned_records_are_another_data_set(tmp_path, monkeypatch):
    prepare(TinyTurned, tmp_path)
    train = load_images(f"tfds:tiny_turned@{tmp_path}", size=8).train
    with train.pixels.original(0) as original:
        assert original.shape == (12, 10, 3)
    monkeypatch.setattr(image_decoding, "_upright", lambda image: (image, False))
    before = load_images(f"tfds:tiny_turned@{tmp_path}", size=8).train
    with before.pixels.original(0) as original:
        assert original.shape == (10, 12, 3)
    assert before.sha256 != train.sha256


def test_data_sets_without_images_or_training_data_are_refused(tmp_path):
    prepare(TinySounds, tmp_path)
    with pytest.raises(InputError, match="tiny_sounds has sound; "):
        load_images(f"tfds:tiny_sounds@{tmp_path}", size=8)
    prepare(TinyTest, tmp_path)
    with pytest.raises(InputError, match="tiny_test has the splits test; "):
        load_images(f"tfds:tiny_test@{tmp_path}", size=8)


@pytest.mark.parametrize(
    ("settings", "named"), [({"image_rows": 1}, "image_rows: needs"), ({"classes": ["a"]}, "classes")]
)
def test_bad_settings_are_refused(source, settings, named):
    with pytest.raises(InputError, match=named):
        load_images(source, size=8, **settings)
