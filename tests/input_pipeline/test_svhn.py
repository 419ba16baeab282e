import numpy as np
import pytest
from scipy.io import savemat

from input_pipeline import DataError, create_dataset

FILES = {"train": 5, "extra": 7, "test": 4}


@pytest.fixture
def arrays():
    """X and y of the three files, with all ten labels."""
    rng = np.random.default_rng(0)
    return {
        name: {
            "X": rng.integers(0, 256, (32, 32, 3, number)).astype(np.uint8),
            "y": (np.arange(number, dtype=np.uint8)[:, None] + number) % 10 + 1,
        }
        for name, number in FILES.items()
    }


@pytest.fixture
def folder(tmp_path, arrays):
    for name, content in arrays.items():
        savemat(tmp_path / f"{name}_32x32.mat", content, do_compression=True)
    return tmp_path


def open_svhn(folder, **options):
    return create_dataset("svhn", data_dir=folder, cache_dir="unused", **options)


def test_trains_on_train_and_extra(folder, arrays):
    data = open_svhn(folder)
    assert (len(data.train), len(data.test)) == (12, 4)
    assert data.labels == {"label": tuple("0123456789")}
    for source, names in [(data.train, ("train", "extra")), (data.test, ("test",))]:
        images = np.concatenate([arrays[name]["X"] for name in names], axis=3)
        labels = np.concatenate([arrays[name]["y"][:, 0] for name in names])
        for number in range(len(source)):
            record = source[number]
            assert record["image"].dtype == np.uint8 and record["label"].dtype == np.int32
            np.testing.assert_array_equal(record["image"], images[:, :, :, number])
            assert record["label"] == (0 if labels[number] == 10 else labels[number])

    pixels = np.concatenate([arrays["train"]["X"], arrays["extra"]["X"]], axis=3)
    np.testing.assert_allclose(data.mean, pixels.mean((0, 1, 3)))
    np.testing.assert_allclose(data.std, pixels.std((0, 1, 3)))


def test_extra_can_be_left_out_with_its_file(folder, arrays):
    (folder / "extra_32x32.mat").unlink()
    data = open_svhn(folder, extra=False)
    assert (len(data.train), len(data.test)) == (5, 4)
    np.testing.assert_allclose(data.mean, arrays["train"]["X"].mean((0, 1, 3)))
    with pytest.raises(DataError, match=r"extra_32x32\.mat cannot be read \(No such file or directory\)"):
        open_svhn(folder)


X, Y = np.zeros((32, 32, 3, 4), np.uint8), np.ones((4, 1), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"X": X, "labels": Y}, "is another file or not whole: it has the arrays X, labels instead of X and y"),
        ({}, "is another file or not whole: it has the arrays none instead of X and y"),
        ({"X": X[:28], "y": Y}, r"X has the shape \(28, 32, 3, 4\) instead of \(32, 32, 3, N\)"),
        ({"X": X[..., 0], "y": Y}, r"X has the shape \(32, 32, 3\) instead of"),
        ({"X": X, "y": Y[:3]}, r"y has the shape \(3, 1\) instead of \(4, 1\), one for each in X"),
        ({"X": X.astype(float), "y": Y}, "X is float64 instead of uint8"),
        ({"X": X, "y": Y.astype(object)}, "y is no array of numbers instead of uint8"),
        ({"X": X, "y": np.uint8([[1], [10], [0], [3]])}, "image 2 has label 0, not from 1 to 10"),
        ({"X": X, "y": np.uint8([[1], [11], [0], [3]])}, "image 1 has label 11, not from 1 to 10"),
    ],
)
def test_says_what_is_wrong_with_a_file(folder, content, message):
    savemat(folder / "train_32x32.mat", content)
    with pytest.raises(DataError, match=rf"train_32x32\.mat:? {message}.*housenumbers") as error:
        open_svhn(folder)
    assert "\n" not in str(error.value)


def test_damaged_files_are_named(folder):
    path = folder / "train_32x32.mat"
    whole = path.read_bytes()
    half = len(whole) // 2
    for damaged in (b"", b"no arrays", whole[:100], whole[:half], whole[: half - 9] + b"damaged!!" + whole[half:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"train_32x32\.mat is .*not .*whole.*; wanted are") as error:
            open_svhn(folder)
        assert "\n" not in str(error.value)
