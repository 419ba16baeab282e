"""The fingerprint of a data set: another one for other data, the same wherever and whenever they were written."""

import dataclasses
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from input_pipeline import create_dataset
from input_pipeline.records import ArraySource, Dataset

ROWS = [f"p/{number}.jpg,{10 * number},{'fm'[number % 2]},person {number}" for number in range(8)]


@pytest.fixture
def own_faces(tmp_path, save_face):
    """A function: fingerprint of eight faces, written anew in a folder with a cache of their own."""

    def fingerprint(name, rows=ROWS, other_image=None, **options):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "faces.csv").write_text("path,age,gender,identity\n" + "\n".join(rows))
        for number in range(8):
            save_face(folder / f"p/{number}.jpg", 99 if number == other_image else number)
        cache = folder / "cache"
        return create_dataset("faces_csv", data_dir=folder, cache_dir=cache, resolution=16, **options).fingerprint

    return fingerprint


def test_the_fingerprint_of_faces_depends_on_what_is_read_alone(own_faces, tmp_path):
    first = own_faces("a")
    assert len(first) == 16 and int(first, 16) >= 0
    os.utime(tmp_path / "a/p/0.jpg", (0, 0))
    code = (
        "from input_pipeline import create_dataset as create;"
        f"print(create('faces_csv', data_dir={str(tmp_path / 'a')!r}, cache_dir='cache', resolution=16).fingerprint)"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    env = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": root}
    again = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert again.stdout.strip() == first, again.stderr

    others = [
        own_faces("pixels", other_image=3),
        own_faces("age", [*ROWS[:-1], "p/7.jpg,71,m,person 7"]),
        own_faces("gender", [*ROWS[:-1], "p/7.jpg,70,f,person 7"]),
        own_faces("order", [ROWS[1], ROWS[0], *ROWS[2:]]),
        own_faces("fewer", ROWS[:-1]),
        own_faces("split", split_seed=1),
        own_faces("limit", limit=3),
        own_faces("limit 4", limit=4),
        own_faces("validation", validation=0.3),
        own_faces("half validation", validation=0.5),
    ]
    assert len({first, *others}) == 11


def test_pixels_labels_and_classes_in_memory_make_the_fingerprint():
    def dataset(pixel=0, label=1, name="b", unused="x"):
        images, labels = np.zeros((4, 2, 2, 3), np.uint8), np.zeros(4, np.int32)
        images[3, 1, 1, 2], labels[2] = pixel, label
        train = ArraySource({"image": images, "label": labels})
        test = ArraySource({"image": images[:1], "label": labels[:1]})
        return Dataset("any", train, {"test": test}, {"label": ("a", name)}, (0,) * 3, (1,) * 3, unused)

    first = dataset()
    assert dataset(unused="y").fingerprint == first.fingerprint
    others = [dataset(pixel=1), dataset(label=0), dataset(name="c")]
    splits = (
        {"validation": {"validation": first.test}},
        {"tests": {"test": first.train}},
        {"tests": {"test_b": first.test}},
    )
    others += [dataclasses.replace(first, **split) for split in splits]
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 7


def test_names_and_sizes_make_the_fingerprint_of_folders_of_images(tmp_path, save_face):
    for number, path in enumerate(("train/a/0", "train/b/0", "train/b/1", "val/a/0", "val/b/0")):
        save_face(tmp_path / f"data/{path}.jpg", number)

    def fingerprint(folder):
        return create_dataset("imagenet", data_dir=folder, cache_dir=tmp_path / "cache", classes=2).fingerprint

    first = fingerprint(tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    assert fingerprint(tmp_path / "moved") == first
    save_face(tmp_path / "moved/val/b/0.jpg", 9, size=(71, 70))
    larger = fingerprint(tmp_path / "moved")
    (tmp_path / "moved/train/b/1.jpg").rename(tmp_path / "moved/train/a/1.jpg")
    assert len({first, larger, fingerprint(tmp_path / "moved")}) == 3
