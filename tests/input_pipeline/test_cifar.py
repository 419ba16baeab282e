import dataclasses
import hashlib
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from input_pipeline import DataError, create_dataset
from input_pipeline.datasets import cifar

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FINE_NAMES = tuple(f"fine_{number:02d}" for number in range(100))


def write(folder, files, label_bytes, labels):
    """Files of 20 records each: labels of any kind before the last one, noise for pixels."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name in files:
        records = rng.integers(0, 256, (20, label_bytes + 3072)).astype(np.uint8)
        records[:, label_bytes - 1] = rng.integers(0, labels, 20)
        records.tofile(folder / name)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """CIFAR-10 with 20 records a file."""
    folder, train = tmp_path / "cifar-10-batches-bin", [f"data_batch_{number}.bin" for number in range(1, 6)]
    write(folder, [*train, "test_batch.bin"], 1, 10)
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    tiny = dataclasses.replace(cifar.CIFAR10, train=dict.fromkeys(train, 20), test={"test_batch.bin": 20})
    monkeypatch.setattr(cifar, "CIFAR10", tiny)
    return folder


@pytest.fixture
def folder100(tmp_path, monkeypatch):
    """CIFAR-100 with 20 records a file."""
    folder = tmp_path / "cifar-100-binary"
    write(folder, ["train.bin", "test.bin"], 2, 100)
    (folder / "fine_label_names.txt").write_text("\n".join(FINE_NAMES) + "\n")
    (folder / "coarse_label_names.txt").write_text("\n".join("abcdefghijklmnopqrst") + "\n")
    tiny = dataclasses.replace(cifar.CIFAR100, train={"train.bin": 20}, test={"test.bin": 20})
    monkeypatch.setattr(cifar, "CIFAR100", tiny)
    return folder


def check_record(record, raw):
    """`raw`: the bytes of the record, from the label that counts on."""
    assert record.keys() == {"image", "label"}
    assert record["label"] == raw[0] and record["label"].dtype == np.int32
    assert record["image"].shape == (32, 32, 3) and record["image"].dtype == np.uint8
    assert record["image"][3, 5].tolist() == [raw[1 + channel * 1024 + 3 * 32 + 5] for channel in range(3)]


def check_mean_and_std(data):
    pixels = np.stack([data.train[number]["image"] for number in range(len(data.train))]).reshape(-1, 3)
    np.testing.assert_allclose(data.mean, pixels.mean(0))
    np.testing.assert_allclose(data.std, pixels.std(0))


def test_reads_the_binary_version(folder):
    data = create_dataset("cifar10", data_dir=folder.parent, cache_dir="unused")
    assert (len(data.train), len(data.test)) == (100, 20)
    assert data.labels == {"label": NAMES}
    check_record(data.train[21], (folder / "data_batch_2.bin").read_bytes()[3073:6146])  # record 1 of the second file
    check_record(data.test[1], (folder / "test_batch.bin").read_bytes()[3073:6146])
    check_mean_and_std(data)
    assert create_dataset("cifar10", data_dir=folder, cache_dir="unused").mean == data.mean


def test_reads_the_fine_labels_of_cifar100(folder100):
    data = create_dataset("cifar100", data_dir=folder100.parent, cache_dir="unused")
    assert (data.name, len(data.train), len(data.test)) == ("cifar100", 20, 20)
    assert data.labels == {"label": FINE_NAMES}
    check_record(data.train[1], (folder100 / "train.bin").read_bytes()[3075:6148])
    check_record(data.test[1], (folder100 / "test.bin").read_bytes()[3075:6148])
    check_mean_and_std(data)
    assert create_dataset("cifar100", data_dir=folder100, cache_dir="unused").mean == data.mean


def test_damaged_files_are_named(folder):
    path = folder / "data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"data_batch_3\.bin has 61459 bytes instead of 61460"):
        create_dataset("cifar10", data_dir=folder, cache_dir="unused")
    path.write_bytes(whole[:3073] + b"\x0a" + whole[3074:])
    with pytest.raises(DataError, match=r"data_batch_3\.bin: record 1 has label 10, above 9"):
        create_dataset("cifar10", data_dir=folder, cache_dir="unused")
    path.unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin cannot be read \(No such file or directory\)"):
        create_dataset("cifar10", data_dir=folder, cache_dir="unused")
    (folder / "batches.meta.txt").write_text("cat dog")
    with pytest.raises(DataError, match="names 2 classes instead of 10"):
        create_dataset("cifar10", data_dir=folder, cache_dir="unused")


def test_damaged_files_of_cifar100_are_named(folder100):
    path = folder100 / "train.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"train\.bin has 61479 bytes instead of 61480"):
        create_dataset("cifar100", data_dir=folder100, cache_dir="unused")
    path.write_bytes(whole[:3075] + b"\x64" + whole[3076:])
    with pytest.raises(DataError, match=r"train\.bin: record 1 has label 100, above 99"):
        create_dataset("cifar100", data_dir=folder100, cache_dir="unused")
    (folder100 / "fine_label_names.txt").write_text("cat dog")
    with pytest.raises(DataError, match="names 2 classes instead of 100"):
        create_dataset("cifar100", data_dir=folder100, cache_dir="unused")
    (folder100 / "fine_label_names.txt").unlink()
    with pytest.raises(DataError, match=r"fine_label_names\.txt cannot be read"):
        create_dataset("cifar100", data_dir=folder100, cache_dir="unused")


@pytest.fixture
def server(folder, web, tmp_path, monkeypatch):
    """A web server that has CIFAR-10's archive, from which it is downloaded instead. Returns its requests."""
    address, requests = web
    with tarfile.open(tmp_path / "web" / "cifar.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    original = dataclasses.replace(
        cifar.CIFAR10.folder,
        url=f"{address}/cifar.tar.gz",
        sha256=hashlib.sha256((tmp_path / "web" / "cifar.tar.gz").read_bytes()).hexdigest(),
    )
    monkeypatch.setattr(cifar, "CIFAR10", dataclasses.replace(cifar.CIFAR10, folder=original))
    return requests


def test_downloads_once(folder, server, tmp_path, capfd):
    cache = tmp_path / "cache"
    data = create_dataset("cifar10", cache_dir=cache)
    output = capfd.readouterr()
    assert output.out == "" and "downloading cifar.tar.gz" in output.err
    wanted = create_dataset("cifar10", data_dir=folder, cache_dir="unused")
    assert data.mean == wanted.mean and data.labels == wanted.labels
    np.testing.assert_array_equal(data.test[7]["image"], wanted.test[7]["image"])
    assert create_dataset("cifar10", cache_dir=cache).mean == wanted.mean
    assert server == ["/cifar.tar.gz"]
    assert sorted(path.name for path in (cache / "downloads").iterdir()) == ["cifar-10-batches-bin", "lock"]


def test_a_download_that_is_not_the_file_is_not_kept(server, tmp_path):
    archive = tmp_path / "web" / "cifar.tar.gz"
    whole = archive.read_bytes()
    for damage, message in [
        (lambda: archive.write_bytes(whole[:-1]), r"its SHA-256 is \w{64} instead of \w{64}"),
        (archive.unlink, "404 Client Error"),
    ]:
        damage()
        with pytest.raises(DataError, match=rf"cifar\.tar\.gz cannot be downloaded \({message}.*data_dir may name"):
            create_dataset("cifar10", cache_dir=tmp_path / "cache")
    archive.write_bytes(whole)
    assert len(create_dataset("cifar10", cache_dir=tmp_path / "cache").train) == 100


def test_the_real_images(shared, tmp_path):
    subprocess.run([sys.executable, shared("data/cifar10").parent / "unpack_cifar.py", "cifar10", tmp_path], check=True)
    data = create_dataset("cifar10", data_dir=tmp_path, cache_dir="unused")
    assert (len(data.train), len(data.test)) == (50000, 10000)
    assert data.labels["label"] == NAMES
    np.testing.assert_allclose(data.mean, [125.307, 122.950, 113.865], atol=1e-3)
    np.testing.assert_allclose(data.std, [62.993, 62.089, 66.705], atol=1e-3)


def test_the_real_images_of_cifar100(shared, tmp_path):
    unpack = shared("data/cifar100").parent / "unpack_cifar.py"
    subprocess.run([sys.executable, unpack, "cifar100", tmp_path], check=True)
    data = create_dataset("cifar100", data_dir=tmp_path, cache_dir="unused")
    assert (len(data.train), len(data.test)) == (50000, 10000)
    assert data.labels["label"][:3] == ("apple", "aquarium_fish", "baby") and len(set(data.labels["label"])) == 100
    for source, images_of_a_class in [(data.train, 500), (data.test, 100)]:
        labels = [source[number]["label"] for number in range(len(source))]
        np.testing.assert_array_equal(np.bincount(labels), np.full(100, images_of_a_class))
    raw = np.fromfile(tmp_path / "cifar-100-binary" / "train.bin", np.uint8).reshape(-1, 2 + 3072)
    planes = raw[:, 2:].reshape(-1, 3, 1024)
    np.testing.assert_allclose(data.mean, planes.mean((0, 2)))
    np.testing.assert_allclose(data.std, [planes[:, channel].std() for channel in range(3)])
