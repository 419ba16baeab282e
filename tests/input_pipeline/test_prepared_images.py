"""Prepared images are those of the folder that is read, whatever else about the files stays the same."""

import hashlib
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from input_pipeline import create_dataset
from input_pipeline.transforms import decode_image

RED, BLUE = (250, 0, 0), (0, 0, 250)


def cells(texts):
    array = np.empty((1, len(texts)), object)
    array[0, :] = texts
    return array


def lay_out(name, folder, paths):
    """Writes the lists of a data set with ten faces; fills `paths` with where their images must be."""
    folder.mkdir(parents=True)
    rows = range(10)
    if name == "faces_csv":
        paths += [f"p/{n}.bmp" for n in rows]
        lines = [f"{path},30,{'test' if n > 6 else 'train'}" for n, path in enumerate(paths)]
        (folder / "faces.csv").write_text("\n".join(["path,age,split", *lines]))
    elif name == "fairface":
        for part, numbers in (("train", rows[:7]), ("val", rows[7:])):
            lines = [f"{part}/{n}.bmp,3-9,Male,Black" for n in numbers]
            (folder / f"fairface_label_{part}.csv").write_text("\n".join(["file,age,gender,race", *lines]))
            paths += [f"{part}/{n}.bmp" for n in numbers]
    elif name == "adience":
        for fold in range(5):
            lines = [f"{n}@N00\t{n}.bmp\t{n}\t(4, 6)\tf" for n in rows[2 * fold : 2 * fold + 2]]
            names = "user_id\toriginal_image\tface_id\tage\tgender"
            (folder / f"fold_{fold}_data.txt").write_text("\n".join([names, *lines]))
        paths += [f"aligned/{n}@N00/landmark_aligned_face.{n}.{n}.bmp" for n in rows]
    else:
        (folder / "wiki_crop").mkdir()
        numbers = {"dob": 723_671.0, "photo_taken": 2009.0, "gender": 1.0, "face_score": 3.0}
        fields = {key: np.full((1, 10), value) for key, value in numbers.items()}
        fields |= {"second_face_score": np.full((1, 10), np.nan), "name": cells([str(n) for n in rows])}
        fields["full_path"] = cells([f"0/{n}.bmp" for n in rows])
        savemat(folder / "wiki_crop/wiki.mat", {"wiki": fields})
        paths += [f"wiki_crop/0/{n}.bmp" for n in rows]


def paint(folder, paths, colour):
    """Writes images of equal size, all of them at the same time, as an archive with fixed times would be unpacked."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), colour).save(folder / path)
        os.utime(folder / path, (1, 1))


def opened(name, folder, cache):
    """The fingerprint, and the colour of a training image."""
    data = create_dataset(name, data_dir=folder, cache_dir=cache, resolution=16)
    return data.fingerprint, decode_image(data.train[0]["image"], "").resize((1, 1)).getpixel((0, 0))


@pytest.mark.parametrize("name", ["adience", "fairface", "faces_csv", "imdb_wiki"])
def test_other_images_of_equal_size_and_time_are_others(name, tmp_path):
    cache, paths = tmp_path / "cache", []
    lay_out(name, tmp_path / "red", paths)
    shutil.copytree(tmp_path / "red", tmp_path / "blue")
    paint(tmp_path / "red", paths, RED)
    paint(tmp_path / "blue", paths, BLUE)
    first, red = opened(name, tmp_path / "red", cache)
    second, blue = opened(name, tmp_path / "blue", cache)
    np.testing.assert_allclose((red, blue), (RED, BLUE), atol=9)
    assert first != second
    paint(tmp_path / "red", paths, BLUE)
    assert opened(name, tmp_path / "red", cache) == (second, blue)


def test_what_was_prepared_is_found_from_a_copy_and_read_once(tmp_path, monkeypatch):
    cache, paths = tmp_path / "cache", []
    lay_out("faces_csv", tmp_path / "a", paths)
    paint(tmp_path / "a", paths, RED)
    first = opened("faces_csv", tmp_path / "a", cache)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in paths:
        os.utime(tmp_path / "b" / path)
    assert opened("faces_csv", tmp_path / "b", cache) == first
    assert len(list(cache.glob("*/16px-*"))) + len(list(cache.glob("16px-*"))) == 1
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert opened("faces_csv", tmp_path / "b", cache) == first


def test_what_could_not_be_read_is_read_when_it_can(tmp_path):
    cache, paths = tmp_path / "cache", []
    lay_out("faces_csv", tmp_path / "own", paths)
    paint(tmp_path / "own", paths, RED)
    os.rename(tmp_path / "own/p", tmp_path / "elsewhere")
    (tmp_path / "own/p").mkdir()
    for path in paths[1:]:
        os.link(tmp_path / "elsewhere" / os.path.basename(path), tmp_path / "own" / path)
    counts = [len(create_dataset("faces_csv", data_dir=tmp_path / "own", cache_dir=cache, resolution=16).train)]
    shutil.rmtree(tmp_path / "own/p")
    os.symlink(tmp_path / "elsewhere", tmp_path / "own/p")
    counts.append(len(create_dataset("faces_csv", data_dir=tmp_path / "own", cache_dir=cache, resolution=16).train))
    assert counts == [6, 7]
