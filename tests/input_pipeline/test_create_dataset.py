import pytest

from input_pipeline import DataError, create_dataset, list_datasets


def test_lists_what_it_can_create():
    assert list_datasets() == ("adience", "cifar10", "rendered_faces")


def test_misspelt_names_are_answered_with_the_nearest(tmp_path):
    with pytest.raises(DataError, match="unknown data set 'adiense'; did you mean 'adience'"):
        create_dataset("adiense", cache_dir=tmp_path)
    with pytest.raises(DataError, match="did you mean 'protocol'"):
        create_dataset("adience", data_dir=tmp_path, cache_dir=tmp_path, protokol="levi")
    with pytest.raises(DataError, match="known are adience, cifar10, rendered_faces"):
        create_dataset("xyz", cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["adience", "cifar10"])
def test_says_so_when_the_folder_is_not_given(name, tmp_path):
    with pytest.raises(DataError, match=f"{name} needs data_dir"):
        create_dataset(name, cache_dir=tmp_path)


def test_errors_are_one_line(tmp_path):
    with pytest.raises(DataError) as error:
        create_dataset("adience", data_dir=tmp_path, cache_dir=tmp_path)
    assert "\n" not in str(error.value)
