import socket
from unittest import mock

import pytest

from input_pipeline import DataError, create_dataset, list_datasets


def test_lists_what_it_can_create():
    faces = ("adience", "faces_csv", "fairface", "imdb_wiki", "rendered_faces")
    assert list_datasets() == tuple(sorted((*faces, "cifar10", "cifar100", "imagenet", "mixture", "svhn")))


def test_misspelt_names_are_answered_with_the_nearest(tmp_path):
    with pytest.raises(DataError, match="unknown data set 'adiense'; did you mean 'adience'"):
        create_dataset("adiense", cache_dir=tmp_path)
    with pytest.raises(DataError, match="did you mean 'protocol'"):
        create_dataset("adience", data_dir=tmp_path, cache_dir=tmp_path, protokol="levi")
    with pytest.raises(DataError, match="known are adience, cifar10, cifar100, faces_csv, fairface, imagenet, imdb_w"):
        create_dataset("xyz", cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["adience", "faces_csv", "imdb_wiki", "imagenet"])
def test_says_so_when_the_folder_is_not_given(name, tmp_path):
    with pytest.raises(DataError, match=f"{name} needs data_dir"):
        create_dataset(name, cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "imagenet"])
def test_only_subjects_can_be_held_out_for_validation(name, tmp_path):
    with pytest.raises(DataError, match=f"{name} does not say who is who.*; leave out validation"):
        create_dataset(name, cache_dir=tmp_path, validation=0.1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "cifar10",
            r"toronto\.edu/~kriz/cifar-10-binary\.tar\.gz cannot .* data_dir .* wanted is the binary version from",
        ),
        (
            "cifar100",
            r"toronto\.edu/~kriz/cifar-100-binary\.tar\.gz cannot .* data_dir .* wanted is the binary version from",
        ),
        ("svhn", r"stanford\.edu/housenumbers/train_32x32\.mat cannot .* data_dir .* wanted are the cropped digits"),
    ],
)
def test_says_what_to_do_when_there_is_no_network(name, message, tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", mock.Mock(side_effect=socket.gaierror(-2, "Name or service not known")))
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    with pytest.raises(DataError, match=message) as error:
        create_dataset(name, cache_dir=tmp_path)
    assert "be downloaded (Name or service not known);" in str(error.value) and "\n" not in str(error.value)


def test_errors_are_one_line(tmp_path):
    with pytest.raises(DataError) as error:
        create_dataset("adience", data_dir=tmp_path, cache_dir=tmp_path)
    assert "\n" not in str(error.value)
