import csv
import functools
import os

import numpy as np
import pytest
from PIL import Image

from input_pipeline import DataError, create_dataset, pipeline
from input_pipeline.alignment import template
from input_pipeline.datasets import faces
from input_pipeline.detection import YuNet
from input_pipeline.face_renderer import render_face, sample_person
from input_pipeline.transforms import decode_image, training_transform


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "own"


@pytest.fixture
def write(folder, save_face):
    """A function that writes faces.csv, with a face at every path of the form p/NUMBER.jpg in it."""

    def write_list(text):
        folder.mkdir(exist_ok=True)
        (folder / "faces.csv").write_text(text)
        for number in range(100):
            if f"p/{number}.jpg" in text:
                save_face(folder / f"p/{number}.jpg", number)

    return write_list


@pytest.fixture
def open_csv(folder, tmp_path):
    return functools.partial(create_dataset, "faces_csv", data_dir=folder, cache_dir=tmp_path / "cache", resolution=16)


def records(source):
    return [source[number] for number in range(len(source))]


def paths(source):
    return [record["path"] for record in records(source)]


def people(source):
    return {record["identity"] for record in records(source)}


def test_columns_are_found_by_name_and_say_what_is_known(write, open_csv, folder):
    write(
        "\ufeffnote,gender, split ,path,identity,age\r\n"
        '"a, b",Female,Train,p/0.jpg,Zoë,33.5\r\n'
        "\r\n"
        ",M,test,p/1.jpg,,\r\n"
        ",u,train,p/2.jpg,otto,0\r\n"
        ",1,VALIDATION,p/3.jpg,anna,100\r\n"
        ",0,train,p/4.jpg,,36\r\n"
        ",,train,p/5.jpg,,\r\n"
    )
    data = open_csv(labels=("age", "gender"))
    assert data.description.splitlines() == [
        "faces_csv: 6 rows read, 3 to train on, 1 to validate with (1 subjects), 1 to test on (column split)",
        "  left out: 1 with no age or gender",
        "  kept without age: 1",
        "  kept without gender: 1",
    ]
    train = records(data.train)
    assert decode_image(train[0].pop("image"), "").size == (16, 16)
    assert train[0].pop("age_span").tolist() == [33.5, 34.5]
    known = {"age": 33.5, "age_group": 4, "gender": 0, "identity": "Zoë"}
    assert train[0] == {**known, "path": "p/0.jpg", "split": "train", "fold": -1}
    labels = [(record["age"], record["age_group"], record["gender"], record["identity"]) for record in train[1:]]
    assert labels == [(0, 0, -1, "otto"), (36, 5, 0, "p/4.jpg")]
    assert [(record["age"], record["gender"]) for record in records(data.validation["validation"])] == [(100, 1)]
    assert [(record["age"], record["age_group"], record["gender"]) for record in records(data.test)] == [(-1, -1, 1)]
    assert paths(open_csv(data_dir=folder / "faces.csv", labels=("age", "gender")).train) == paths(data.train)
    with pytest.raises(DataError, match=r"has rows for validation already; leave out validation=0\.5"):
        open_csv(validation=0.5)


def test_a_path_may_be_full_and_an_image_may_have_an_id(write, open_csv):
    """The columns of a Kaggle competition (Multi-task age and gender, section 3)."""
    write("id,full_path,gender,age\n" + "".join(f"00{n},p/{n}.jpg,{n % 2},{n}\n" for n in range(9)) + ",p/9.jpg,1,9\n")
    data = open_csv()
    found = {record["id"]: record for source in (data.train, data.test) for record in records(source)}
    assert found.keys() == {*(f"00{number}" for number in range(9)), ""}
    assert (found["007"]["path"], found["007"]["gender"], found["007"]["age"]) == ("p/7.jpg", 1, 7)
    transform = training_transform("none", size=8, resize=8, fill=data.mean)
    batch = next(pipeline.train_batches(data.train, transform=transform, batch_size=2, seed=0, epochs=1))
    assert "id" not in batch and batch["age"].shape == (2,)


def test_whole_images_keep_their_shape(write, open_csv, folder, save_face):
    write("path,age,split\n" + "".join(f"p/{n}.jpg,30,{'test' if n == 4 else 'train'}\n" for n in range(5)))
    sizes = {(60, 30): (16, 8), (30, 61): (8, 16), (300, 1): (16, 1), (8, 8): (16, 16)}
    for number, size in enumerate(sizes):
        save_face(folder / f"p/{number}.jpg", number, size)
    squares, data = open_csv(), open_csv(whole_image=True)
    images = [decode_image(record["image"], "") for record in records(data.train)]
    assert [image.size for image in images] == list(sizes.values())
    assert {decode_image(record["image"], "").size for record in records(squares.train)} == {(16, 16)}
    pixels = np.concatenate([np.asarray(image).reshape(-1, 3) for image in images])
    np.testing.assert_allclose(data.mean, pixels.mean(0))
    np.testing.assert_allclose(data.std, pixels.std(0))
    whole = Image.open(folder / "p/0.jpg").resize((16, 8), Image.Resampling.BICUBIC)
    flat = [np.asarray(image, float).ravel() for image in (images[0], whole)]
    assert np.corrcoef(flat)[0, 1] > 0.95  # but for what JPEG does to so small an image


def test_a_fold_is_tested_on_and_the_others_train(write, open_csv):
    rows = [f"p/{number}.jpg,30,{number // 2},{'test' if number < 8 else 'train'}" for number in range(10)]
    write("path,age,fold,split\n" + "\n".join(rows))
    data = open_csv(fold=2, validation=0.5)
    assert paths(data.test) == ["p/4.jpg", "p/5.jpg"] and {record["fold"] for record in records(data.test)} == {2}
    assert len(data.train) == len(data.validation["validation"]) == 4
    assert len(open_csv().test) == 8  # as the column split says
    with pytest.raises(DataError, match="there is no fold 5: the folds are 0 to 4"):
        open_csv(fold=5)


def test_folds_are_named_and_never_ignored(write, open_csv):
    write("path,age,fold\n" + "".join(f"p/{number}.jpg,30,{fold}\n" for number, fold in enumerate((7, 0, 2, 0))))
    assert open_csv(fold=2).folds == (0, 2, 7)
    with pytest.raises(DataError, match=r"faces\.csv has a column fold; give dataset\.fold, the fold to test on$"):
        open_csv()


def test_people_or_images_are_drawn_where_nothing_says_what_to_test_on(write, open_csv):
    write("path,age,identity\n" + "\n".join(f"p/{number}.jpg,30,{number // 4}" for number in range(80)))
    data = open_csv()
    assert (len(data.train), len(data.test)) == (72, 8)
    assert not people(data.train) & people(data.test)
    assert "(10% at random by person, seed 0)" in data.description
    assert paths(open_csv().test) == paths(data.test) != paths(open_csv(split_seed=1).test)

    by_image = open_csv(by_person=False, test_share=0.25)
    assert len(by_image.test) == 20 and len(people(by_image.test)) > 5
    held_out = open_csv(validation=0.5)
    assert len(held_out.validation["validation"]) == 36 and paths(held_out.test) == paths(data.test)
    for wrong in ({"test_share": 0}, {"test_share": 1.0}, {"split_seed": -1}):
        with pytest.raises(DataError, match="above 0 and below 1, and 0 or more"):
            open_csv(**wrong)
    assert data.folds == ()
    with pytest.raises(DataError, match="no fold 0: the rows have none; leave out fold"):
        open_csv(fold=0)


@pytest.mark.parametrize(("identity", "options"), [("", {}), ("", {"validation": 0.5}), ("eva", {"by_person": False})])
def test_rows_of_one_image_are_never_drawn_apart(write, open_csv, identity, options):
    write(
        "path,age,identity\n" + "".join(f"p/{n}.jpg,30,{identity}\n.//p/./{n}.jpg,31,{identity}\n" for n in range(12))
    )
    data = open_csv(test_share=0.5, **options)
    drawn = [set(paths(source)) for source in (data.train, *data.evaluations.values())]
    assert sum(map(len, drawn)) == len(set.union(*drawn)) == 12 and len(data.test) == 12
    assert "(50% at random, seed 0)" in data.description  # nobody is known, or nobody matters


def test_who_is_unknown_is_known_by_the_image(write, open_csv):
    write("path,age,identity\np/0.jpg,30,\n" + "".join(f"./p/{n}.jpg,30,eva\n" for n in range(1, 9)))
    data = open_csv(test_share=0.5)
    assert {frozenset(people(data.train)), frozenset(people(data.test))} == {frozenset({"p/0.jpg"}), frozenset({"eva"})}
    assert "(50% at random by person, seed 0)" in data.description


def test_rows_that_cannot_be_used_are_counted_and_listed(write, open_csv, folder, save_face):
    unusable = {  # path, age, gender -> reason
        ("p/gone.jpg", "30", "f"): "no image file",
        ("text.jpg", "30", "f"): "an unreadable image file",
        ("p", "30", "f"): "an unreadable image file",
        ("large.png", "30", "f"): "an image of more than 50 million pixels",
        ("pipe.jpg", "30", "f"): "an unreadable image file",
        ("../out.jpg", "30", "f"): "a path that leaves the folder",
        (str(folder.parent / "out.jpg"), "30", "f"): "a path that leaves the folder",
    }
    write(
        "path,age,gender,split\np/0.jpg,30,f,train\np/1.jpg,30,f,test\n"
        + "".join(f"{','.join(row)},train\n" for row in unusable)
    )
    save_face(folder.parent / "out.jpg")
    (folder / "text.jpg").write_text("no image")
    Image.new("1", (8000, 8000)).save(folder / "large.png")
    os.mkfifo(folder / "pipe.jpg")

    *lines, place = open_csv().description.splitlines()
    assert lines == [
        "faces_csv: 9 rows read, 1 to train on, 1 to test on (column split)",
        "  left out: 3 with an unreadable image file",
        "  left out: 2 with a path that leaves the folder",
        "  left out: 1 with no image file",
        "  left out: 1 with an image of more than 50 million pixels",
    ]
    with open(place.removeprefix("  rows that cannot be used are listed in "), newline="") as file:
        listed = [tuple(row.values()) for row in csv.DictReader(file)]
    assert listed == [(str(line), row[0], reason) for line, (row, reason) in enumerate(unusable.items(), start=4)]


def test_names_of_columns_may_be_in_any_case(write, open_csv):
    """A split that is not seen would let a random share of the people be tested on."""
    header = "Path,AGE,Split,Identity,ID,Gender_Raw,gender,page,folder\n"
    write(header + "".join(f"p/{n}.jpg,30,{'Test' if n > 2 else 'TRAIN'},eva {n},{n},x,F,1,p\n" for n in range(5)))
    data = open_csv()
    assert paths(data.test) == ["p/3.jpg", "p/4.jpg"] and people(data.test) == {"eva 3", "eva 4"}
    assert data.test[0]["id"] == "3" and data.test[0]["gender"] == 0
    write("full_PATH,Age,FOLD\n" + "".join(f"p/{n}.jpg,30,{n}\n" for n in range(3)))
    assert open_csv(fold=1).folds == (0, 1, 2)


def test_what_is_unknown_may_be_written_in_words(write, open_csv):
    unknown = ["", "NA", "n/a", "NaN", "null", "None", "?", "-", "unknown"]
    rows = "".join(f"p/{n}.jpg,{text},{text},{text},train\n" for n, text in enumerate(unknown))
    write(f"path,age,gender,identity,split\n{rows}p/20.jpg,30,m,Na,train\np/21.jpg,30,m,NA,test\n,,,,\n")
    data = open_csv(labels=("gender",))
    assert data.description.splitlines() == [
        "faces_csv: 11 rows read, 1 to train on, 1 to test on (column split)",
        "  left out: 9 with no gender",
    ]
    assert (people(data.train), people(data.test)) == ({"Na"}, {"p/21.jpg"})


def test_an_age_that_is_none_is_unknown_and_the_gender_is_learnt(write, open_csv):
    ages = ["30", "thirty", "100.5", "-1", "1_0", "\u0663\u0660", "31", "NA"]
    rows = "".join(f"p/{n}.jpg,{age},f,train\n" for n, age in enumerate(ages))
    write(f"path,age,gender,split\n{rows}p/20.jpg,30,m,test\n")
    doubts = "  ages taken as unknown: 5 with an age that is no number from 0 to 100 (line 3, ...)"
    data = open_csv(labels=("gender",))
    assert [record["age"] for record in records(data.train)] == [30, -1, -1, -1, -1, -1, 31, -1]
    assert data.description.splitlines()[1:] == [doubts]
    data = open_csv(labels=("age",))
    assert [record["age"] for record in records(data.train)] == [30, 31]
    assert data.description.splitlines()[1:] == ["  left out: 6 with no age", doubts]


def test_absolute_paths_and_links_in_the_folder_are_its_owners(write, open_csv, folder, save_face, monkeypatch):
    """A path that lies in the folder by its names is read, wherever links lead; it has one text."""
    (folder.parent / "link to it").symlink_to(folder)
    lines = {
        str(folder / "p/0.jpg"): "p/0.jpg",
        str(folder.parent / "link to it/p/1.jpg"): "p/1.jpg",
        "p/../p//./2.jpg": "p/2.jpg",
        "link.jpg": "link.jpg",
        "links/out.jpg": "links/out.jpg",
        "p/3.jpg": "p/3.jpg",
    }
    write("path,age,split\n" + "".join(f"{path},30,{'test' if 'p/3' in path else 'train'}\n" for path in lines))
    for number in range(3):
        save_face(folder / f"p/{number}.jpg", number)
    save_face(folder.parent / "out.jpg")
    (folder / "link.jpg").symlink_to(folder.parent / "out.jpg")
    (folder / "links").symlink_to(folder.parent)
    monkeypatch.chdir(folder.parent)
    for place in (folder.parent / "link to it", "link to it/faces.csv"):
        data = open_csv(data_dir=place)
        assert paths(data.train) + paths(data.test) == list(lines.values())


def test_labels_stay_with_their_images_where_whole_files_are_empty(write, open_csv, folder, monkeypatch):
    monkeypatch.setattr(faces, "ROWS_IN_A_FILE", 2)
    gone = (1, 2, 3, 6)  # of files of two rows: the second is empty
    write("path,age,split\n" + "".join(f"p/{n}.jpg,{n},{'test' if n % 4 == 1 else 'train'}\n" for n in range(9)))
    for number in range(9):
        Image.new("RGB", (20, 20), (25 * number, 0, 0)).save(folder / f"p/{number}.jpg")
        if number in gone:
            (folder / f"p/{number}.jpg").unlink()
    data = open_csv()
    for source, numbers in ((data.train, [0, 4, 7, 8]), (data.test, [5])):
        assert [(record["age"], record["path"]) for record in records(source)] == [(n, f"p/{n}.jpg") for n in numbers]
        reds = [np.asarray(decode_image(record["image"], ""))[..., 0].mean() for record in records(source)]
        np.testing.assert_allclose(reds, [25 * number for number in numbers], atol=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            r"faces\.csv has no column path; its first line must name path \(or full_path\), age \(or age_low",
        ),
        ("path,age\n\n", r"faces\.csv has no rows"),
        ("path;age\np/0.jpg;3\n", r"faces\.csv has no column path; its first line must name"),
        ("path,sex\np/0.jpg,f\n", "has neither a column age nor a column gender"),
        ("path,age,Age\np/0.jpg,3,4\n", "has the column age twice"),
        ("path,age,spilt\np/0.jpg,3,test\n", "has a column 'spilt' and no 'split': call it so"),
        ("path,age,Identity.\np/0.jpg,3,eva\n", r"has a column 'identity\.' and no 'identity'"),
        ("path,full_path,age\np/0.jpg,p/0.jpg,3\n", "has the column path twice"),
        ("full_path,full_path,age\np/0.jpg,p/0.jpg,3\n", "has the column path twice"),
        ("path,age,id\np/0.jpg,3," + "1" * 1001 + "\n", "line 2: a text of more than 1000 characters"),
        ("path,age\np/0.jpg,3\np/1.jpg\n", r"faces\.csv, line 3: 1 fields where the first line names 2"),
        ("path,age,split\np/0.jpg,3,tset\n", r"line 2: unknown split 'tset'; did you mean 'test'\?"),
        ("path,age,fold\np/0.jpg,3,-1\n", r"line 2: the fold is '-1'; it must be 0 or another whole number"),
        ("path,age,identity,fold\na,3,eva,0\nb,3,eva,1\nc,3,,0\nd,3,,1\n", r"faces\.csv: 1 subjects are in more than"),
        ("path,age,identity,split\na,3,e,test\nb,3,e,train\nc,3,o,test\nd,3,o,train\n", "2 subjects .* than one split"),
        ("path,age,split\na,3,test\n./a,3,train\n", "1 subjects .* than one split .*'a', in splits test and train"),
        ("path,age,fold\na/b,3,0\na//b,3,1\n", "1 subjects .* than one fold .*'a/b', in folds 0 and 1"),
        ("path,age,identity\na,3,eva\n,3,ann\n,3,eva\n./a,3,\n", "line 5: 'a' has another identity than in line 2"),
        ("path,gender\np/0.jpg,f\np/1.jpg,femal\n", "line 3: unknown gender 'femal'; did you mean 'female'"),
        ("path,age\n" + "a" * 1001 + ",3\n", "line 2: a text of more than 1000 characters"),
        ("path,age\n" + "a" * 200_000, r"faces\.csv, line 2: field larger than field limit"),
    ],
)
def test_lists_of_another_kind_are_refused(write, open_csv, text, message):
    write(text)
    with pytest.raises(DataError, match=message) as error:
        open_csv()
    assert "\n" not in str(error.value)


def test_files_that_are_no_lists_are_refused(open_csv, folder):
    with pytest.raises(DataError, match=r"own cannot be read \(No such file or directory\)"):
        open_csv()
    folder.mkdir()
    (folder / "faces.csv").write_bytes(b"path,age\n\xff\xd8\n")
    with pytest.raises(DataError, match=r"faces\.csv is not a text file in UTF-8"):
        open_csv()


def test_images_are_turned_as_their_exif_data_say(write, open_csv, folder):
    write("path,age,split\np/0.jpg,30,train\np/1.jpg,30,test\n")
    image, exif = Image.new("RGB", (60, 40), (255, 0, 0)), Image.Exif()
    image.paste((0, 0, 255), (30, 0, 60, 40))  # red left, blue right
    exif[0x0112] = 6  # "turn it 90 degrees clockwise to see it": red above, blue below
    image.save(folder / "p/0.jpg", exif=exif)
    pixels = np.asarray(decode_image(open_csv().train[0]["image"], ""), int)
    assert pixels[:6, :, 0].min() > 200 and pixels[-6:, :, 2].min() > 200


def test_a_changed_list_or_image_is_prepared_again(write, open_csv, folder):
    write("path,age,split\np/0.jpg,30,train\np/1.jpg,30,test\n")
    before = open_csv().train[0]
    write("path,age,split\np/0.jpg,31,train\np/1.jpg,30,test\n")
    assert (before["age"], open_csv().train[0]["age"]) == (30, 31)
    Image.new("RGB", (40, 40)).save(folder / "p/0.jpg")
    assert open_csv().mean == (0, 0, 0)


def test_the_main_face_is_found_and_aligned(write, open_csv, folder):
    """A coloured one near the middle; a grey one in a corner is larger."""
    write("path,age,split\n" + "".join(f"p/{n}.jpg,30,{split}\n" for n, split in enumerate(("train", "train", "test"))))
    for number, person in enumerate((7, 19)):
        rng = np.random.default_rng(person)
        face, _ = render_face(sample_person(rng), 35, rng, 256)
        photograph = Image.new("RGB", (900, 500), (90, 110, 120))
        photograph.paste(face.convert("L").convert("RGB"), (640, 240))
        photograph.paste(face.resize((200, 200)), (330, 150))
        photograph.rotate(10 * number).save(folder / f"p/{number}.jpg")
    (folder / "p/2.jpg").write_bytes((folder / "p/0.jpg").read_bytes())
    Image.new("RGB", (300, 300)).save(folder / "p/3.jpg")
    with (folder / "faces.csv").open("a") as file:
        file.write("p/3.jpg,30,test\n")
    assert open_csv(resolution=128).template is None
    data = open_csv(align=0.4, resolution=128)
    np.testing.assert_array_equal(data.template, template(0.4))
    assert "  left out: 1 with no face that the detector finds" in data.description.splitlines()
    for record in records(data.train):
        image = decode_image(record["image"], "")
        assert image.size == (128, 128)
        (face,) = YuNet()(image)
        np.testing.assert_allclose(face.landmarks.mean(0) / 128, data.template.mean(0), atol=0.04)
        np.testing.assert_allclose(face.landmarks.std(0) / 128, data.template.std(0), rtol=0.2)
        assert np.ptp(np.asarray(image)[48:80, 48:80], axis=2).mean() > 20


def test_ages_may_be_spans(write, open_csv):
    """Of completed years, both ends included; the age is the middle."""
    write(
        "path,age_high,age_low,age,split\n"
        "p/0.jpg,32,25,,train\n"
        "p/1.jpg,,70,,train\n"
        "p/2.jpg,2,,,train\n"
        "p/3.jpg,,,35,test\n"
        "p/4.jpg,24,25,,train\n"
        "p/5.jpg,24,-3,,train\n"
        "p/6.jpg,24,20,22,train\n"
        "p/7.jpg,,,,train\n"
        "p/8.jpg,30,30,,train\n"
    )
    data = open_csv(labels=("age_span", "age"))
    found = [(record["age_span"].tolist(), record["age"]) for record in records(data.train) + records(data.test)]
    assert found == [([25, 33], 28.5), ([70, 101], 85), ([0, 3], 1), ([30, 31], 30), ([35, 36], 35)]
    groups = [record["age_group"] for record in records(data.train)]
    assert groups == [4, 7, 0, 4]
    write("path,age_low,age_high,split\np/0.jpg,18,,train\np/1.jpg,40,50,train\np/2.jpg,60,,train\np/3.jpg,1,2,test\n")
    assert [record["age_group"] for record in records(open_csv(labels=("age_span",)).train)] == [-1, -1, 7]
    assert {
        "  ages taken as unknown: 1 with a span of ages whose first year is above its last (line 6)",
        "  ages taken as unknown: 1 with an age that is no number from 0 to 100 (line 7)",
        "  ages taken as unknown: 1 with both an age and a span of ages (line 8)",
        "  left out: 4 with no age_span or age",
        "  ages that are spans of years, of which the middle is taken: 3",
    } <= {*data.description.splitlines()}
