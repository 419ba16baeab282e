import subprocess
import sys

import numpy as np
import pytest

from input_pipeline import DataError, create_dataset
from input_pipeline.datasets import cifar10

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """CIFAR-10 with 20 records a file."""
    monkeypatch.setattr(cifar10, "RECORDS", 20)
    folder, rng = tmp_path / "cifar-10-batches-bin", np.random.default_rng(0)
    folder.mkdir()
    for name in (*cifar10.TRAIN_FILES, cifar10.TEST_FILE):
        records = rng.integers(0, 256, (20, 3073)).astype(np.uint8)
        records[:, 0] = rng.integers(0, 10, 20)
        records.tofile(folder / name)
    (folder / cifar10.NAMES_FILE).write_text("\n".join(NAMES) + "\n\n")
    return folder


def test_reads_the_binary_version(folder):
    data = create_dataset("cifar10", data_dir=folder.parent, cache_dir="unused")
    assert (len(data.train), len(data.test)) == (100, 20)
    assert data.labels == {"label": NAMES}
    raw = (folder / "data_batch_2.bin").read_bytes()[3073:6146]  # record 1 of the second file
    record = data.train[21]
    assert record["label"] == raw[0] and record["label"].dtype == np.int32
    assert record["image"].shape == (32, 32, 3) and record["image"].dtype == np.uint8
    assert record["image"][3, 5].tolist() == [raw[1 + channel * 1024 + 3 * 32 + 5] for channel in range(3)]

    pixels = np.stack([data.train[number]["image"] for number in range(100)]).reshape(-1, 3)
    np.testing.assert_allclose(data.mean, pixels.mean(0))
    np.testing.assert_allclose(data.std, pixels.std(0))
    assert create_dataset("cifar10", data_dir=folder, cache_dir="unused").mean == data.mean


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


def test_the_real_images(shared_data, tmp_path):
    subprocess.run([sys.executable, shared_data / "unpack_cifar.py", "cifar10", tmp_path], check=True)
    data = create_dataset("cifar10", data_dir=tmp_path, cache_dir="unused")
    assert (len(data.train), len(data.test)) == (50000, 10000)
    assert data.labels["label"] == NAMES
    np.testing.assert_allclose(data.mean, [125.307, 122.950, 113.865], atol=1e-3)
    np.testing.assert_allclose(data.std, [62.993, 62.089, 66.705], atol=1e-3)
