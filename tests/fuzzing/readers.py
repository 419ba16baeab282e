"""The cases: each function writes files of its kind into a folder, damages them and reads them."""

import contextlib
import functools
import hashlib
import io
import json
import pathlib
import shutil
import tarfile
import tempfile
from types import SimpleNamespace
from unittest import mock

import numpy as np
import scipy.io
import tensorflow_datasets as tfds

from fuzzing import weights
from fuzzing.damage import CELLS, damaged, damaged_table, odd_file, one_of
from fuzzing.images import encoded, image_file
from fuzzing.matlab import cell_array, mat_file
from input_pipeline import create_dataset, transforms
from input_pipeline.datasets import adience, cifar, downloads, faces_csv, imagenet, imdb_wiki, svhn

SIDE = 8


def images(rng, folder):
    """Any image file, through every transform, and as a face."""
    data = image_file(rng)
    image = transforms.EncodedImage(data, "record")
    fit = one_of(rng, transforms.FITS)
    transform = transforms.training_transform(
        one_of(rng, [name for name in transforms.AUGMENTATIONS if name != "pad_and_crop"]),
        size=SIDE,
        resize=SIDE + 2,
        fill=(0, 0, 0),
        fit=fit,
    )
    trained = rng.random() < 0.5
    pixels, matrix = transform(image, rng) if trained else transforms.crop_views(image, SIDE, 224, "ten_crop", fit)
    assert pixels.shape[-3:] == (SIDE, SIDE, 3) and pixels.dtype == np.uint8 and np.isfinite(matrix).all()


def face_files(rng, folder):
    """Face data sets whose images are damaged, or no files."""
    lines = ["path,age,split"]
    for number in range(6):
        path = folder / f"{number}.jpg"
        lines.append(f"{path.name},30,{'test' if number % 2 else 'train'}")
        path.write_bytes(image_file(rng) if rng.random() < 0.5 else encoded(rng))
        if rng.random() < 0.3:
            odd_file(rng, path)
    (folder / "faces.csv").write_text("\n".join(lines))
    options = {"cache_dir": folder / "cache", "resolution": SIDE, "whole_image": rng.random() < 0.5}
    check_faces(create_dataset("faces_csv", data_dir=folder, **options))


def faces_csv_lists(rng, folder):
    """A damaged list and its faces."""
    last = one_of(rng, ("split", "fold", "id"))
    rows = [[one_of(rng, ("path", "full_path")), "age", "gender", "identity", last]]
    for number in range(8):
        part = {"split": ("train", "test")[number % 2], "fold": str(number % 3), "id": f"no. {number}"}[last]
        rows.append(
            [f"{number}.jpg", str(20 + number), "fmuFM01"[number % 7], "" if number < 4 else f"n{number}", part]
        )
        (folder / f"{number}.jpg").write_bytes(FACE)
    path = folder / "faces.csv"
    path.write_bytes(damaged_table(rng, rows, ","))
    if rng.random() < 0.05:
        odd_file(rng, path)
    for row in faces_csv.read_rows(path):
        assert row.age_span == (-1, -1) or 0 <= row.age_span[0] < row.age_span[1] <= 101
    if rng.random() < 0.1:
        fold = 1 if last == "fold" else None
        check_faces(create_dataset("faces_csv", data_dir=path, cache_dir=folder / "cache", resolution=SIDE, fold=fold))


def adience_lists(rng, folder):
    """Five fold lists, one of them damaged, and their faces."""
    for fold in range(5):
        rows = [["user_id", "original_image", "face_id", "age", "gender", "x"]]
        for row in range(4):
            rows.append(
                [
                    f"{fold}{row // 2}@N00",
                    f"{row}.jpg",
                    str(row),
                    one_of(rng, adience.EXACT_LABELS),
                    "fmu"[row % 3],
                    "0",
                ]
            )
            path = folder / "aligned" / rows[-1][0] / f"landmark_aligned_face.{row}.{row}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(FACE)
        path = folder / f"fold_{fold}_data.txt"
        path.write_bytes(damaged_table(rng, rows, "\t") if fold == 2 else tab_separated(rows))
    if rng.random() < 0.05:
        odd_file(rng, one_of(rng, (path, folder / "aligned/00@N00/landmark_aligned_face.0.0.jpg")))
    for row in adience.read_fold_lists(folder):
        assert row.gender in (-1, 0, 1) and row.face_id >= 0
        assert not row.path.is_absolute() and ".." not in row.path.parts and row.path.parts[0] == "aligned"
        assert all(-1 <= adience.age_group(row.age_label, protocol) < 8 for protocol in adience.PROTOCOLS)
    if rng.random() < 0.2:
        options = {"protocol": one_of(rng, list(adience.PROTOCOLS)), "resolution": SIDE}
        check_faces(create_dataset("adience", data_dir=folder, cache_dir=folder / "cache", **options))


def tab_separated(rows):
    """The text of a fold list."""
    return "\n".join("\t".join(row) for row in rows).encode()


def check_faces(data):
    """The images and labels of all records."""
    for source in (data.train, *data.evaluations.values()):
        for number in range(len(source)):
            record = source[number]
            assert max(transforms.decode_image(record["image"], "").size) == SIDE
            assert record["age"] == -1 or 0 <= record["age"] <= 100
            assert -1 <= record["age_group"] < 8 and record["gender"] in (-1, 0, 1)
    assert (
        all(0 <= value <= 255 for value in data.mean + data.std) and max(map(len, data.description.splitlines())) < 1000
    )


def cifars(rng, folder):
    """One of the two in files of two images, one of them damaged."""
    version = one_of(rng, (cifar.CIFAR10, cifar.CIFAR100))
    sizes = {"train": dict.fromkeys(version.train, 2), "test": dict.fromkeys(version.test, 2)}
    tiny = SimpleNamespace(**{field: getattr(version, field) for field in version.__dataclass_fields__} | sizes)
    write_cifar(rng, tiny, folder)
    path = folder / one_of(rng, sorted(path.name for path in folder.iterdir()))
    if rng.random() < 0.7:
        path.write_bytes(damaged(rng, path.read_bytes()))
    else:
        odd_file(rng, path)
    check_classes(cifar._create(tiny, folder, folder, ("label",)), version.classes)


def write_cifar(rng, version, folder):
    for name in version.train | version.test:
        records = rng.integers(0, version.classes, (2, version.label_bytes + 3072)).astype(np.uint8)
        (folder / name).write_bytes(records.tobytes())
    (folder / version.names_file).write_text("\n".join(f"class{number}" for number in range(version.classes)))


def check_classes(data, classes):
    assert len(data.labels["label"]) == classes
    for source in (data.train, data.test):
        for number in range(len(source)):
            record = source[number]
            assert 0 <= record["label"] < classes
            if not isinstance(record["image"], bytes):
                assert record["image"].shape == (32, 32, 3) and record["image"].dtype == np.uint8
    assert all(0 <= value <= 255 for value in data.mean + data.std)


def archives(rng, folder):
    """Of CIFAR-10, with members that lead out of the folder; the sum is right, so that they are unpacked."""
    file = io.BytesIO()
    name = cifar.CIFAR10.folder.name
    with tarfile.open(fileobj=file, mode=one_of(rng, ("w:gz", "w", "w:xz"))) as archive:
        members = [f"{name}/test_batch.bin"]
        if rng.random() < 0.7:
            members.append(
                one_of(rng, ("../out", "/tmp/ror_jax_out", f"{name}/../../out", "a\udcff", "b" * 5000, "..", name))
            )
        for member in members:
            info = tarfile.TarInfo(member)
            kinds = (
                tarfile.REGTYPE,
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.FIFOTYPE,
                tarfile.CHRTYPE,
                tarfile.DIRTYPE,
            )
            info.type = one_of(rng, kinds) if rng.random() < 0.4 else tarfile.REGTYPE
            info.linkname = one_of(rng, ("../../out", "/etc/passwd", info.name, ""))
            info.size = 100
            archive.addfile(info, io.BytesIO(bytes(100)))
            if rng.random() < 0.1:
                info.size = 2**62
                file.write(info.tobuf(tarfile.GNU_FORMAT))
    data = damaged(rng, file.getvalue()) if rng.random() < 0.5 else file.getvalue()
    response = mock.MagicMock(headers={}, iter_content=lambda size: [data])
    response.__enter__.return_value = response
    original = downloads.Original(name, "http://localhost/cifar.tar.gz", hashlib.sha256(data).hexdigest())
    with mock.patch("requests.get", return_value=response):
        found = downloads.download([original], folder / "cache", "wanted is another")
    assert (found / name).exists() and {path.name for path in found.iterdir()} == {"lock", name}


def svhns(rng, folder):
    """Three files, one of them damaged or with other arrays."""
    for name in ("train", "extra", "test"):
        images, labels = (
            rng.integers(0, 255, (32, 32, 3, 4)).astype(np.uint8),
            np.array([[1], [10], [3], [4]], np.uint8),
        )
        arrays = {"X": images, "y": labels}
        if name == "train":
            if rng.random() < 0.2:
                other = (
                    labels.astype(object),
                    {"a": 1.0},
                    images * 1j,
                    "text",
                    images.astype(float),
                    scipy.sparse.eye(4).tocsc(),
                )
                arrays[one_of(rng, "Xy")] = one_of(rng, other)
            mat_file(rng, folder / f"{name}_32x32.mat", arrays)
        else:
            (folder / f"{name}_32x32.mat").write_bytes(WHOLE_SVHN)
    with mock.patch.object(svhn, "MOST", 2**26):
        check_classes(create_dataset("svhn", data_dir=folder, cache_dir=folder), 10)


def whole_svhn():
    file = io.BytesIO()
    scipy.io.savemat(file, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((2, 1), np.uint8)})
    return file.getvalue()


def imdb_wikis(rng, folder):
    """One of the two lists, with odd numbers, texts and types in it, and then damaged."""
    part = one_of(rng, ("imdb", "wiki"))
    (folder / f"{part}_crop").mkdir()
    number = 8
    paths = [f"{index}.jpg" for index in range(number)]
    who = [f"name{index}" for index in range(number)]
    numbers = {
        "dob": np.full(number, 723_000.0),
        "photo_taken": np.full(number, 2010.0),
        "gender": np.ones(number),
        "face_score": np.full(number, 3.0),
        "second_face_score": np.full(number, np.nan),
        "celeb_id": np.arange(number, dtype=float),
    }
    for path in paths:
        (folder / f"{part}_crop" / path).write_bytes(FACE)
    for _ in range(rng.integers(5)):
        field = one_of(rng, list(numbers))
        numbers[field][rng.integers(number)] = one_of(
            rng, (np.nan, np.inf, -np.inf, 0, -1, 1e300, 1e19, -1e19, 3e9, 0.5)
        )
    for texts in (paths, who):
        if rng.random() < 0.4:
            texts[rng.integers(number)] = one_of(rng, (*CELLS, "a\ud800b", 3.0, ["a"], b"a", "", {"a": 1.0}))
    fields = numbers | {"full_path": cell_array(paths), "name": cell_array(who)}
    if rng.random() < 0.2:
        field = one_of(rng, list(fields))
        fields[field] = one_of(
            rng,
            (
                "text",
                3.0,
                [],
                cell_array([1, "a"]),
                numbers["dob"] * 1j,
                np.ones(number, bool),
                {"b": 2.0},
                fields[field][:3],
            ),
        )
    try:
        mat_file(rng, folder / f"{part}_crop" / f"{part}.mat", {part: fields})
    except (UnicodeError, TypeError, ValueError):
        if not (folder / f"{part}_crop" / f"{part}.mat").exists():
            raise
    options = {"resolution": SIDE, "min_size": 5, "test_share": 0.5, "cache_dir": folder / "cache"}
    with mock.patch.object(imdb_wiki, "MOST", 2**26):
        check_faces(create_dataset("imdb_wiki", data_dir=folder, **options))


def imagenet_folders(rng, folder):
    """Class folders with things in them that do not belong there."""
    classes = ["n1", "n2"]
    for split in ("train", "val"):
        for name in classes:
            (folder / split / name).mkdir(parents=True)
            for number in range(2):
                (folder / split / name / f"{number}.jpeg").write_bytes(FACE)
    everything = sorted(folder.rglob("*"))
    path = one_of(rng, everything)
    kind = rng.integers(4)
    if kind == 0 and path.is_file():
        path.write_bytes(image_file(rng))
    elif kind == 1 and path.is_file():
        odd_file(rng, path)
    elif kind == 2:
        name = one_of(rng, (b"a\nb", b"\xff\xfe", b"x" * 250, b" ", b"-", b"\x1b[2J", b"n3"))
        place = bytes(folder) + one_of(rng, (b"/train/", b"/val/", b"/train/n1/", b"/")) + name
        pathlib.Path(place.decode(errors="surrogateescape")).mkdir()
    elif kind == 3:
        place = path.with_name(one_of(rng, ("link", "link.jpeg")))
        place.symlink_to(one_of(rng, ("link", "..", "/dev/zero", "/dev/stdin", "none", "/proc/self/mem", "link.jpeg")))
    check_classes(create_dataset("imagenet", data_dir=folder, cache_dir=folder / "cache", classes=2), 2)


class Prepared(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    name, VERSION, url_infos = imagenet.PREPARED, tfds.core.Version("5.1.0"), None

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=["n1", "n2"]),
            "file_name": tfds.features.Text(),
        }
        info = tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))
        info.set_file_format("array_record")
        return info

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples() for split in ("train", "validation")}

    def _generate_examples(self):
        for number in range(4):
            yield number, {"image": io.BytesIO(FACE), "label": number % 2, "file_name": f"{number}.JPEG"}


@functools.cache
def prepared() -> pathlib.Path:
    """The folder of a whole one."""
    scratch = tempfile.mkdtemp()
    with contextlib.redirect_stdout(None):
        builder = Prepared(data_dir=scratch)
        builder.download_and_prepare(download_dir=scratch)
    return pathlib.Path(builder.data_path)


def imagenet_prepared(rng, folder):
    """What tensorflow-datasets writes, damaged."""
    version = shutil.copytree(prepared(), folder / imagenet.PREPARED / "5.1.0")
    path = one_of(rng, sorted(version.iterdir()))
    if path.suffix == ".json" and rng.random() < 0.6:
        path.write_text(json.dumps(changed(rng, json.loads(path.read_text()))))
    elif rng.random() < 0.8:
        path.write_bytes(damaged(rng, path.read_bytes()))
    else:
        odd_file(rng, path)
    check_classes(create_dataset("imagenet", data_dir=folder, cache_dir=folder / "cache", classes=2), 2)


def changed(rng, value):
    """A JSON value with one thing in it replaced."""
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        value = value.copy()
        key = one_of(rng, list(value) if isinstance(value, dict) else range(len(value)))
        value[key] = changed(rng, value[key])
        return value
    return one_of(rng, (None, -1, 2**70, "", "../..", [], {}, "antigravity.Feature", "9" * 30, "x\x00", 0.5, ["1"] * 3))


FACE = encoded(np.random.default_rng(0))
WHOLE_SVHN = whole_svhn()
CASES = {
    "images": images,
    "face_files": face_files,
    "faces_csv": faces_csv_lists,
    "adience": adience_lists,
    "cifar": cifars,
    "archives": archives,
    "svhn": svhns,
    "imdb_wiki": imdb_wikis,
    "imagenet_folders": imagenet_folders,
    "imagenet_prepared": imagenet_prepared,
    "torch": weights.torch,
    "safetensors": weights.safetensors_files,
}
