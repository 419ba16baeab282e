import collections
import functools
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from input_pipeline import DataError, create_dataset, pipeline, transforms
from input_pipeline.age_groups import AGE_GROUPS
from input_pipeline.datasets import adience, faces
from input_pipeline.datasets.subjects import check_subjects
from input_pipeline.transforms import decode_image


@pytest.fixture
def open_adience(adience_folder, tmp_path):
    return functools.partial(create_dataset, "adience", data_dir=adience_folder, cache_dir=tmp_path, resolution=32)


def records(source):
    return [source[number] for number in range(len(source))]


def face_path(folder, number):
    """Of the face of that number, which is row `number` of all lists together."""
    return next(folder.glob(f"aligned/*/landmark_aligned_face.{number}.*"))


# The lists


def test_reads_every_row_of_the_lists(adience_folder):
    rows = adience.read_fold_lists(adience_folder)
    assert len(rows) == 70
    assert rows[16] == adience.Row(
        fold=1, line=4, identity="8@N00", original_image="16_o.jpg", face_id=16, age_label="(25, 32)", gender=0
    )
    assert collections.Counter(row.gender for row in rows) == {0: 18, 1: 18, -1: 34}


def test_columns_are_found_by_name(adience_folder):
    path = adience_folder / "fold_2_data.txt"
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    expected = adience.read_fold_lists(adience_folder)
    path.write_text("".join("\t".join(reversed(row)) + "\r\n" for row in rows))
    assert adience.read_fold_lists(adience_folder) == expected
    text = path.read_text().replace("user_id", "User_ID").replace("age", "AGE").replace("\tm\t", "\tM\t")
    path.write_text(text.replace("(0, 2)", "(0,2)").replace("\tu\t", "\tNA\t"))
    assert adience.read_fold_lists(adience_folder) == expected


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), r"is not Adience: there is no fold_2_data\.txt; wanted is .*Adience-data\.html"),
        (
            lambda path: path.write_text(path.read_text().replace("gender", "sex")),
            r"fold_2_data\.txt has no column gender",
        ),
        (lambda path: path.write_text(""), "has no column user_id, original_image, face_id, age, gender"),
        (
            lambda path: path.write_text(path.read_text() + "1@N00\tx.jpg\n"),
            r"fold_2_data\.txt, line 16: 2 fields where",
        ),
        (
            lambda path: path.write_text(path.read_text().replace("\t30\t", "\t3O\t")),
            "line 4: the face_id is not a number",
        ),
        (
            lambda path: path.write_text(path.read_text().replace("\t30\t", "\t\u0663\u0660\t")),
            "line 4: the face_id is not a number",
        ),
        (
            lambda path: path.write_text(path.read_text().replace("\tm\t", "\tx\t")),
            "line 3: unknown gender 'x'; known are f, m, u",
        ),
        *(
            (
                lambda path, name=name: path.write_text(path.read_text().replace("14@N00", name)),
                "line 2: the face would lie outside",
            )
            for name in ("..", "/etc", "a/../..")
        ),
        (lambda path: path.write_text(path.read_text().replace("28_o.jpg", "/../28_o.jpg")), "line 2: the face would"),
        (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0"), r"fold_2_data\.txt is not a text file"),
    ],
)
def test_damaged_lists_are_named(open_adience, adience_folder, damage, message):
    damage(adience_folder / "fold_2_data.txt")
    with pytest.raises(DataError, match=message) as error:
        open_adience()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("label", "levi", "nearest"),
    [
        *((label, group, group) for group, label in enumerate(adience.EXACT_LABELS)),
        ("(8, 13)", -1, 2),
        ("(38, 42)", -1, 5),
        ("(38, 48)", -1, 5),
        ("(27, 32)", -1, 4),
        ("(8, 23)", -1, 3),
        ("(25, 23)", -1, 4),
        ("2", -1, 0),
        ("3", -1, 1),  # a tie: the older
        ("13", -1, 2),
        ("22", -1, 3),
        ("23", -1, 4),
        ("35", -1, 5),  # a tie: the older
        ("36", -1, 5),
        ("45", -1, 5),
        ("46", -1, 6),
        ("56", -1, 6),
        ("57", -1, 7),
        ("None", -1, -1),
        ("\u0663\u0660", -1, -1),
        ("101", -1, -1),
        ("30 or so", -1, -1),
        ("", -1, -1),
    ],
)
def test_age_labels_and_their_groups(label, levi, nearest):
    assert adience.age_group(label, "levi") == levi
    assert adience.age_group(label, "all") == nearest


def test_the_real_lists(shared):
    rows = adience.read_fold_lists(shared("data/adience_lists"))
    per_fold = [[row for row in rows if row.fold == fold] for fold in range(5)]
    assert [len(fold) for fold in per_fold] == [4496, 3745, 3953, 3459, 3834]

    def known(label):
        return [sum(label(row) >= 0 for row in fold) for fold in per_fold]

    assert known(lambda row: adience.age_group(row.age_label, "levi")) == [4316, 3101, 3339, 2975, 3693]  # 17,424
    assert known(lambda row: adience.age_group(row.age_label, "all")) == [4444, 3708, 3398, 3412, 3772]  # 18,734
    assert known(lambda row: row.gender) == [4007, 3624, 3191, 3318, 3463]  # 17,603
    groups = collections.Counter(adience.age_group(row.age_label, "all") for row in rows)
    assert [groups[group] for group in range(-1, 8)] == [753, 2522, 2181, 2301, 1805, 5315, 2796, 910, 904]
    check_subjects(rows, "fold", "")


# The prepared data set


def test_folds_are_split_and_labelled(open_adience):
    data = open_adience(fold=3)
    assert data.folds == (0, 1, 2, 3, 4)
    assert data.labels["age_group"] == AGE_GROUPS and data.labels["gender"] == ("female", "male")
    train, test = records(data.train), records(data.test)
    assert {record["fold"] for record in test} == {3}
    assert {record["fold"] for record in train} == {0, 1, 2, 4}
    assert not {record["identity"] for record in train} & {record["identity"] for record in test}

    record = test[0]  # row 42 of all: label 0, gender "u"
    assert decode_image(record.pop("image"), "").size == (32, 32)
    assert record.pop("age_span").tolist() == [0, 3]
    assert record == {
        "age": 1,
        "age_group": 0,
        "gender": -1,
        "identity": "21@N00",
        "fold": 3,
        "face_id": 42,
        "age_label": "(0, 2)",
    }
    assert {record[key].dtype for key in ("age_group", "gender", "fold", "face_id")} == {np.dtype(np.int32)}
    assert record["age"].dtype == np.float32
    assert {record["age"] for record in train if record["age_label"] == "35"} == {35}


def test_rows_without_a_wanted_label_are_left_out_and_counted(open_adience):
    data = open_adience(labels=("age_group",))
    assert (len(data.train), len(data.test)) == (32, 8)
    assert "70 rows read, 32 to train on, 8 to test on (fold 0)" in data.description
    assert "left out: 30 with no age_group" in data.description

    everything = open_adience(labels=("age_group",), protocol="all")
    assert len(everything.train) + len(everything.test) == 60
    assert {record["age_group"] for record in records(everything.train)} == {0, 2, 4, 5, 7}

    gender = open_adience(labels=("gender",))
    assert len(gender.train) + len(gender.test) == 36
    assert all(record["gender"] >= 0 for record in records(gender.train))

    both = open_adience()
    kept = len(both.train) + len(both.test)
    assert kept == sum(row % 7 < 4 or row % 4 < 2 for row in range(70))
    assert f"kept without age_group: {kept - 40}" in both.description
    assert f"kept without gender: {kept - 36}" in both.description


@pytest.mark.parametrize("protocol", ["levi", "all"])
def test_the_age_is_the_middle_of_its_span(open_adience, preparations, protocol):
    data = open_adience(protocol=protocol, labels=("age",))
    everything = records(data.train) + records(data.test)
    assert {record["age_label"]: float(record["age"]) for record in everything} == {
        "(0, 2)": 1,
        "(8, 12)": 10,
        "(25, 32)": 28.5,
        "(38, 42)": 40,
        "(60, 100)": 80,
        "35": 35,
    }
    spans = {record["age_label"]: record["age_span"].tolist() for record in everything}
    assert (spans["(25, 32)"], spans["35"], spans["(60, 100)"]) == ([25, 33], [35, 36], [60, 101])
    assert "left out: 10 with no age" in data.description
    assert "ages that are spans of years, of which the middle is taken: 50" in data.description
    groups = {record["age_label"]: record["age_group"] for record in everything}
    assert (groups["(25, 32)"], groups["35"]) == (4, 5 if protocol == "all" else -1)
    assert len(preparations) == 1


def test_mean_and_std_are_those_of_the_training_pixels(open_adience):
    data = open_adience(fold=1, labels=("gender",))
    pixels = np.concatenate([np.asarray(decode_image(r["image"], "")).reshape(-1, 3) for r in records(data.train)])
    np.testing.assert_allclose(data.mean, pixels.mean(0))
    np.testing.assert_allclose(data.std, pixels.std(0))


def test_images_of_any_kind_become_rgb(open_adience, adience_folder):
    colours = {"L": 200, "RGBA": (200, 200, 200, 255), "P": 5, "CMYK": (55, 55, 55, 0), "1": 1, "LA": (200, 255)}
    for number, (mode, colour) in enumerate(colours.items()):
        image = Image.new(mode, (64, 48), colour)
        if mode == "P":
            image.putpalette([200] * 768)
        image.save(face_path(adience_folder, number), "JPEG" if mode in ("L", "CMYK") else "PNG")
    test = records(open_adience(fold=0, protocol="all").test)
    pixels = {record["face_id"]: np.asarray(decode_image(record["image"], "")) for record in test}
    for number, mode in enumerate(colours):
        assert pixels[number].shape == (32, 32, 3)
        assert abs(pixels[number].mean() - (255 if mode == "1" else 200)) < 2


def test_unusable_images_are_counted_by_reason(open_adience, adience_folder):
    whole = face_path(adience_folder, 0).read_bytes()
    face_path(adience_folder, 1).unlink()
    face_path(adience_folder, 2).write_bytes(b"")
    face_path(adience_folder, 3).write_bytes(whole[: len(whole) // 2])
    face_path(adience_folder, 4).write_text("no image")
    for number, side in ((5, 8000), (8, 10000), (9, 14000)):  # Pillow says nothing, warns and refuses
        Image.new("1", (side, side)).save(face_path(adience_folder, number), "PNG")
    data = open_adience(protocol="all")
    assert "left out: 1 with no image file" in data.description
    assert "left out: 3 with an unreadable image file" in data.description
    assert "left out: 3 with an image of more than 50 million pixels" in data.description
    left_out = sum(int(line.split()[2]) for line in data.description.splitlines() if "left out" in line)
    assert len(data.train) + len(data.test) + left_out == 70
    shown = {record["face_id"] for record in records(data.train) + records(data.test)}
    assert not shown & {1, 2, 3, 4, 5, 8, 9}


def test_a_folder_without_faces_is_refused(open_adience, adience_folder):
    (adience_folder / "aligned").rename(adience_folder / "unaligned")
    with pytest.raises(DataError, match="the fold lists are there, but none of their 70 faces is under aligned/"):
        open_adience()


def test_a_folder_without_a_usable_face_is_refused(open_adience, adience_folder):
    for path in adience_folder.glob("aligned/*/*"):
        path.write_text("no image")
    with pytest.raises(DataError, match=r"nothing to train or test on: .*70 with an unreadable image file"):
        open_adience()


def test_subjects_in_two_folds_are_refused(open_adience, adience_folder):
    for fold in (1, 4):
        path = adience_folder / f"fold_{fold}_data.txt"
        path.write_text(path.read_text().replace(f"{7 * fold}@N00", "0@N00").replace(f"{7 * fold + 1}@N00", "1@N00"))
    with pytest.raises(
        DataError, match=r"2 subjects are in more than one fold \(one of them, '0@N00', in folds 0 and 1\)"
    ):
        open_adience()


def test_misspelt_arguments_are_answered(open_adience):
    with pytest.raises(DataError, match="did you mean 'levi'"):
        open_adience(protocol="Levi")
    with pytest.raises(DataError, match="did you mean 'gender'"):
        open_adience(labels=("gendre",))
    with pytest.raises(DataError, match="there is no fold 5: the folds are 0 to 4"):
        open_adience(fold=5)


# Preparing once


@pytest.fixture
def preparations(monkeypatch):
    """Counts how often files are written."""
    calls = []
    write = faces.FaceBuilder._write
    monkeypatch.setattr(faces.FaceBuilder, "_write", lambda self: (calls.append(self), write(self)))
    return calls


def test_prepared_files_are_used_again(open_adience, preparations):
    first = open_adience()
    second = open_adience(fold=2, protocol="all", labels=("gender",))
    assert len(preparations) == 1
    assert open_adience().train[5]["image"] == first.train[5]["image"]
    assert second.mean != first.mean
    open_adience(resolution=24)
    assert len(preparations) == 2


def test_a_changed_folder_is_prepared_again(open_adience, adience_folder, preparations):
    before = open_adience()
    Image.new("RGB", (40, 40), (1, 2, 3)).save(face_path(adience_folder, 0), "JPEG")
    assert np.asarray(decode_image(open_adience().test[0]["image"], "")).max() < 20
    path = adience_folder / "fold_0_data.txt"
    path.write_text(path.read_text().replace("(0, 2)\tf", "(4, 6)\tf"))
    assert (before.test[0]["age_group"], open_adience().test[0]["age_group"]) == (0, 1)
    assert len(preparations) == 3


def test_an_interrupted_preparation_is_started_anew(open_adience, monkeypatch):
    load, calls = adience._load, iter(range(1000))

    def interrupted(*args):
        if next(calls) == 20:
            raise KeyboardInterrupt
        return load(*args)

    with monkeypatch.context() as patch:
        patch.setattr(adience, "_load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_adience()
    data = open_adience(protocol="all")
    assert "70 rows read" in data.description and "left out: 5 with" in data.description


def test_two_at_once_prepare_once(open_adience, preparations):
    sizes = []
    threads = [threading.Thread(target=lambda: sizes.append(len(open_adience().train))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sizes) == 2 and sizes[0] == sizes[1]
    assert len(preparations) == 1


def test_sources_can_be_sent_to_other_processes(open_adience):
    data = open_adience()
    copy = pickle.loads(pickle.dumps(data.train))
    assert len(copy) == len(data.train) and str(copy[7]) == str(data.train[7])


def test_real_portraits(shared, tmp_path):
    folder = tmp_path / "portraits"
    subprocess.run([sys.executable, shared("data/make_adience_layout.py"), folder], check=True)
    data = create_dataset("adience", data_dir=folder, cache_dir=tmp_path, labels=("gender",), fold=4, resolution=72)
    assert "878 rows read, 696 to train on, 174 to test on (fold 4)" in data.description
    assert all(80 < mean < 160 for mean in data.mean) and all(30 < std < 80 for std in data.std)
    transform = transforms.training_transform("scale_and_aspect", size=64, resize=72, fill=data.mean)
    batch = next(pipeline.train_batches(data.train, transform=transform, batch_size=16, seed=0, epochs=1))
    assert batch["image"].shape == (16, 64, 64, 3) and set(batch["gender"].tolist()) <= {0, 1}
    assert batch["image"].std() > 30
