import io
import json
import pathlib
import pickle
import re
import shutil
import sys
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from input_pipeline import DataError, create_dataset
from input_pipeline.datasets import imagenet
from input_pipeline.pipeline import test_batches as batches_to_test_on  # pytest would take it for a test
from input_pipeline.pipeline import train_batches
from input_pipeline.transforms import center_crop, training_transform

WNIDS = ("n01440764", "n01443537", "n02105855")


def encoded(seed, size=(12, 9), mode="RGB", encoding="JPEG"):
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(blocks).resize(size).convert(mode).save(file, encoding)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Class 0 has one image to train on, class 1 two, class 2 three; every class has two to test on."""
    for number, wnid in enumerate(WNIDS):
        for split, count in (("train", number + 1), ("val", 2)):
            path = tmp_path / "data" / split / wnid
            path.mkdir(parents=True)
            for image in range(count):
                data = encoded(100 * number + 10 * image + len(split), size=(12 + 4 * number, 9))
                (path / f"{wnid}_{image}.JPEG").write_bytes(data)
    return tmp_path / "data"


def crop(image, rng=None):
    """Any transform."""
    return center_crop(image, 8, resize=8)


def open_imagenet(folder, classes=3, **options):
    return create_dataset("imagenet", data_dir=folder, cache_dir=folder.parent / "cache", classes=classes, **options)


def refused(folder, message, **options):
    """Opening it raises one line that has the regular expression in it."""
    with pytest.raises(DataError, match=message) as error:
        open_imagenet(folder, **options)
    assert "\n" not in str(error.value)


def files(source):
    return [(record["file"], int(record["label"])) for record in map(source.__getitem__, range(len(source)))]


def mean_of(images):
    """Mean and standard deviation [3] over encoded images that count the same."""
    pixels = [np.asarray(Image.open(io.BytesIO(image)).convert("RGB"), np.float64).reshape(-1, 3) for image in images]
    mean = np.mean([values.mean(0) for values in pixels], axis=0)
    return mean, np.sqrt(np.mean([np.square(values - mean).mean(0) for values in pixels], axis=0))


def test_class_folders(folder):
    data = open_imagenet(folder)
    assert data.name == "imagenet" and data.labels == {"label": WNIDS}
    assert data.description == "imagenet: 6 images to train on, 6 to test on, 3 classes"
    train = [
        (f"train/{wnid}/{wnid}_{image}.JPEG", label) for label, wnid in enumerate(WNIDS) for image in range(label + 1)
    ]
    assert files(data.train) == train
    assert files(data.test) == [
        (f"val/{w}/{w}_{image}.JPEG", label) for label, w in enumerate(WNIDS) for image in (0, 1)
    ]
    record = data.train[5]
    assert record.keys() == {"image", "label", "file"}
    assert record["label"].dtype == np.int32
    assert record["image"] == (folder / record["file"]).read_bytes()
    assert data.train[-1] == record
    with pytest.raises(IndexError):
        data.train[6]


def test_other_names_and_links(folder, tmp_path):
    before = files(open_imagenet(folder).train)
    (folder / "val").rename(folder / "validation")
    (folder / "train" / WNIDS[0]).rename(tmp_path / "elsewhere")
    (folder / "train" / WNIDS[0]).symlink_to(tmp_path / "elsewhere")
    (folder / "train" / ".DS_Store").touch()
    (folder / "validation" / WNIDS[0] / ".DS_Store").touch()
    (folder / "train" / WNIDS[2] / "ä.PnG").write_bytes(encoded(0, encoding="PNG"))
    (folder / "train" / WNIDS[2] / "b.jpg").write_bytes(encoded(1))
    data = open_imagenet(folder)
    added = [(f"train/{WNIDS[2]}/{name}", 2) for name in ("b.jpg", "ä.PnG")]
    assert files(data.train) == sorted(before + added)
    assert files(data.test)[0] == (f"validation/{WNIDS[0]}/{WNIDS[0]}_0.JPEG", 0)


def test_pickled_sources_are_small_and_read_the_same(folder):
    data = open_imagenet(folder)
    copy = pickle.loads(pickle.dumps(data.train))
    assert [copy[number] for number in range(6)] == [data.train[number] for number in range(6)]


def test_names_of_many_files_take_little_memory():
    names = np.array([f"n01440764_{number}.JPEG".encode() for number in range(100_000)])
    source = imagenet.FolderSource(pathlib.Path("folder"), "train", ("n01440764",), [names])
    assert len(pickle.dumps(source)) < 25 * len(source)


def test_grey_cmyk_and_png_images_become_rgb_batches(folder):
    path = folder / "train" / WNIDS[0]
    (path / f"{WNIDS[0]}_0.JPEG").write_bytes(encoded(0, mode="L"))
    (path / f"{WNIDS[0]}_1.JPEG").write_bytes(encoded(0, mode="CMYK"))
    (path / f"{WNIDS[0]}_2.JPEG").write_bytes(encoded(0, mode="P", encoding="PNG"))
    data = open_imagenet(folder)
    (batch,) = batches_to_test_on(data.train, transform=crop, batch_size=8)
    assert batch.keys() == {"image", "label", "mask"}
    assert batch["image"].shape == (8, 8, 8, 3) and batch["label"].tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert (batch["image"][0] == batch["image"][0][..., :1]).all() and batch["image"][0].std() > 0
    np.testing.assert_allclose(data.mean, mean_of([data.train[number]["image"] for number in range(8)])[0])
    list(train_batches(data.train, transform=crop, batch_size=4, seed=0, epochs=1))


def test_mean_and_std(folder, monkeypatch):
    data = open_imagenet(folder)
    mean, std = mean_of([data.train[number]["image"] for number in range(6)])
    np.testing.assert_allclose(data.mean, mean)
    np.testing.assert_allclose(data.std, std)

    monkeypatch.setattr(imagenet, "SAMPLE", 3)
    data = open_imagenet(folder)
    mean, std = mean_of([data.train[number]["image"] for number in (0, 2, 4)])
    np.testing.assert_allclose(data.mean, mean)
    np.testing.assert_allclose(data.std, std)


def test_mean_is_kept_until_the_images_change(folder, capfd):
    first = open_imagenet(folder)
    assert "mean of imagenet" in capfd.readouterr().err
    image = folder / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG"
    image.write_bytes(bytes(image.stat().st_size))  # not looked at
    again = open_imagenet(folder)
    assert (again.mean, again.std) == (first.mean, first.std)
    assert "mean of imagenet" not in capfd.readouterr().err

    (folder / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG").write_bytes(encoded(7))
    (folder / "train" / WNIDS[0] / f"{WNIDS[0]}_1.JPEG").write_bytes(encoded(8))
    changed = open_imagenet(folder)
    assert changed.mean != first.mean
    image.write_bytes(encoded(7, size=(33, 31)))
    assert open_imagenet(folder).mean != changed.mean
    other = folder.parent / "other"
    shutil.copytree(folder, other)
    for path in other.glob("train/*/*"):
        path.write_bytes(encoded(9))
    assert open_imagenet(other).mean != open_imagenet(folder).mean


def test_wrong_folders_are_refused(folder, tmp_path):
    with pytest.raises(DataError, match="imagenet needs data_dir; wanted is the folder with train/<class>/"):
        create_dataset("imagenet", cache_dir=tmp_path)
    refused(tmp_path / "nowhere", r"nowhere has no folder train; wanted is")
    refused(folder, "has the label 'label' alone, not age", labels=("age",))
    (folder / "val").rename(folder / "test")
    refused(folder, r"data has no folder val; wanted is")


def test_wrong_classes_are_refused(folder):
    refused(folder, r"data: 3 classes, not 1000; complete them or set classes=3", classes=1000)
    assert len(open_imagenet(folder, classes=0).train) == 6
    for name in ("n1", "n2", "n3", "n4"):
        (folder / "val" / name).mkdir()
    refused(folder, r"data: 4 class folders are in val but not in train \(n1, n2, n3, \.\.\.\); both must")
    (folder / "train" / "n9").mkdir()
    refused(folder, r"data: 1 class folders are in train but not in val \(n9\); both must")
    for split in ("train", "val"):
        shutil.rmtree(folder / split)
        (folder / split / "n1").mkdir(parents=True)
    refused(folder, r"data: 1 classes are too few", classes=0)
    refused(folder, r"data: 1 classes are too few", classes=1)


def test_what_does_not_belong_there_is_named(folder):
    (folder / "val" / WNIDS[1] / "notes.txt").touch()
    (folder / "train" / WNIDS[0] / "more.jpeg").mkdir()
    refused(folder, rf"data: 2 things in .* \(train/{WNIDS[0]}/more\.jpeg, val/{WNIDS[1]}/notes\.txt\); only \.jpeg")
    for number in range(5):
        (folder / "val" / f"ILSVRC2012_val_{number}.JPEG").touch()
    refused(
        folder, r"data/val: 5 files beside the class folders \(ILSVRC2012_val_0\.JPEG, .*_2\.JPEG, \.\.\.\); put each"
    )


def test_empty_class_folders_are_named(folder):
    for path in (folder / "val" / WNIDS[1]).iterdir():
        path.unlink()
    refused(folder, rf"data: 1 class folders are empty \(val/{WNIDS[1]}\); fill them")


def test_damaged_and_vanished_images_are_named(folder):
    data = open_imagenet(folder)
    path = folder / "train" / WNIDS[1] / f"{WNIDS[1]}_1.JPEG"
    path.write_bytes(path.read_bytes()[:200])
    name = rf"file train/{WNIDS[1]}/{WNIDS[1]}_1\.JPEG: the image cannot be decoded"
    with pytest.raises(DataError, match=name):
        list(batches_to_test_on(data.train, transform=crop, batch_size=2))
    with pytest.raises(DataError, match=name):
        transform = training_transform("scale", size=8, resize=8, fill=data.mean)
        list(train_batches(data.train, transform=transform, batch_size=2, seed=0, epochs=1))
    shutil.rmtree(folder.parent / "cache")
    refused(folder, name.removeprefix("file "))

    path.unlink()
    with pytest.raises(DataError, match=rf"{re.escape(str(path))} was listed, but cannot be read \(No such file"):
        data.train[2]
    path.symlink_to("nowhere.JPEG")
    refused(folder, rf"{re.escape(str(path))} was listed, but cannot be read")
    (folder / "train" / WNIDS[1]).rename(folder / "n1")
    (folder / "train" / WNIDS[1]).symlink_to("nowhere")
    refused(folder, rf"data/train: 1 files beside the class folders \({WNIDS[1]}\)")


class Imagenet2012(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """As tensorflow-datasets' own, with three classes: image k of a split has label k modulo 3."""

    name = "imagenet2012"
    VERSION = tfds.core.Version("5.1.0")
    SUPPORTED_VERSIONS: ClassVar = [tfds.core.Version("10.0.0")]
    url_infos = None
    SIZES: ClassVar = {"train": 5, "validation": 4}

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=WNIDS),
            "file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split, size) for split, size in self.SIZES.items()}

    def _generate_examples(self, split, size):
        for number in range(size):
            yield (
                number,
                {"image": io.BytesIO(encoded(number)), "label": number % 3, "file_name": f"{split}_{number}.JPEG"},
            )


@pytest.fixture
def prepare(tmp_path):
    """A function that prepares a data set and gives the folder of its version."""

    def prepare(builder=Imagenet2012, version="5.1.0"):
        builder(data_dir=tmp_path / "data", version=version, file_format="array_record").download_and_prepare(
            download_dir=tmp_path / "unused"
        )
        return tmp_path / "data" / builder.name / version

    return prepare


def test_prepared_by_tensorflow_datasets(prepare):
    folder = prepare()
    data = open_imagenet(folder.parent.parent)
    assert data.labels == {"label": WNIDS}
    assert data.description == "imagenet: 5 images to train on, 4 to test on, 3 classes"
    assert sorted(files(data.train)) == [(f"train_{number}.JPEG", number % 3) for number in range(5)]
    assert sorted(files(data.test)) == [(f"validation_{number}.JPEG", number % 3) for number in range(4)]
    record = data.train[0]
    number = int(record["file"][6])
    assert record["image"] == encoded(number) and record["label"].dtype == np.int32
    mean, std = mean_of([encoded(number) for number in range(5)])
    np.testing.assert_allclose(data.mean, mean)
    np.testing.assert_allclose(data.std, std)

    copy = pickle.loads(pickle.dumps(data.train))
    assert [copy[number] for number in range(5)] == [data.train[number] for number in range(5)]
    (batch,) = batches_to_test_on(copy, transform=crop, batch_size=5)
    assert batch.keys() == {"image", "label", "mask"} and sorted(batch["label"]) == [0, 0, 1, 1, 2]
    for other in (folder, folder.parent):
        assert files(open_imagenet(other).train) == files(data.train)


def test_the_newest_prepared_version_is_taken(prepare, monkeypatch):
    prepare()
    monkeypatch.setitem(Imagenet2012.SIZES, "train", 2)
    folder = prepare(version="10.0.0")
    (folder.parent / "incomplete.ABC_11.0.0").mkdir()
    (folder.parent / "incomplete.ABC_11.0.0" / "dataset_info.json").touch()
    assert len(open_imagenet(folder.parent.parent).train) == 2
    assert len(open_imagenet(folder.parent / "5.1.0").train) == 5


def test_unusable_prepared_files_are_refused(prepare, monkeypatch):
    folder = prepare()
    refused(folder, "5.1.0: 3 classes, not 1000", classes=1000)
    data = open_imagenet(folder)
    (file,) = folder.glob("*train*")
    file.rename(folder / "away")
    with pytest.raises(DataError, match=r"5\.1\.0: record 0 cannot be read \(.*-train\.array_record-00000-of-00001\)"):
        pickle.loads(pickle.dumps(data.train))[0]

    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    refused(folder, "5.1.0 is not in array_record format, .* tfds build imagenet2012 --file_format=array_record")
    (folder / "dataset_info.json").write_text(json.dumps(info | {"name": "mnist"}))
    refused(folder, "5.1.0 is the data set mnist; wanted is")

    (folder / "dataset_info.json").write_text(json.dumps(info))
    features = (folder / "features.json").read_text()
    (folder / "features.json").write_text(features.replace("tensorflow_datasets.core.features.text", "this"))
    refused(folder, "in array_record format, or damaged")
    assert "this" not in sys.modules  # nor is any other module imported because a file names it

    monkeypatch.delitem(Imagenet2012.SIZES, "validation")
    refused(prepare(version="10.0.0"), "10.0.0 has no split validation")


def test_classes_of_tensorflow_datasets_are_sorted():
    """So labels of folders and of prepared files are the same."""
    names = pathlib.Path(tfds.core.tfds_path("datasets/imagenet2012/labels.txt")).read_text().split()
    assert len(names) == 1000 and names == sorted(names)
