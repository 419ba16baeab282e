import collections
import csv
import datetime
import functools

import numpy as np
import pytest
from scipy.io import savemat

from input_pipeline import DataError, create_dataset
from input_pipeline.transforms import decode_image

NAN = np.nan
BORN = datetime.date(1980, 3, 5)
# A row that every rule keeps.
GOOD = {"dob": BORN, "taken": 2010, "path": None, "gender": 1.0, "score": 3.0, "second": NAN, "who": None}


def datenum(date):
    """MATLAB's: 1 January 0000 is day 1, where `toordinal` begins with the year 1, and the year 0 had 366 days."""
    return date.toordinal() + 366 if isinstance(date, datetime.date) else date


def cells(values):
    array = np.empty((1, len(values)), object)
    array[0, :] = values
    return array


def struct(part, rows):
    """The fields as the original files have them: 1xN, numbers as MATLAB packs them, cell arrays of texts."""
    fields = {
        "dob": np.array([[datenum(row["dob"]) for row in rows]]),
        "photo_taken": np.array([[row["taken"] for row in rows]], np.float32),
        "full_path": cells([row["path"] for row in rows]),
        "gender": np.array([[row["gender"] for row in rows]]),
        "name": cells([str(row["who"]) if part == "wiki" else "a name" for row in rows]),
        "face_location": cells([np.ones((1, 4)) for _ in rows]),
        "face_score": np.array([[row["score"] for row in rows]]),
        "second_face_score": np.array([[row["second"] for row in rows]]),
    }
    if part == "imdb":
        fields |= {"celeb_names": cells(["a name", "another"]), "celeb_id": np.array([[row["who"] for row in rows]])}
    return fields


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "archives"


@pytest.fixture
def write(folder, save_face):
    """A function that writes a part with these rows (what differs from `GOOD`); `images`: one for every row."""

    def write_part(part, rows, images=True):
        rows = [GOOD | {"path": f"0{number % 2}/{number}.jpg", "who": number} | row for number, row in enumerate(rows)]
        (folder / f"{part}_crop").mkdir(parents=True, exist_ok=True)
        savemat(folder / f"{part}_crop" / f"{part}.mat", {part: struct(part, rows)}, do_compression=True)
        for number, row in enumerate(rows if images else []):
            save_face(folder / f"{part}_crop" / row["path"], number)

    return write_part


@pytest.fixture
def open_imdb_wiki(folder, tmp_path):
    return functools.partial(
        create_dataset, "imdb_wiki", data_dir=folder, cache_dir=tmp_path / "cache", resolution=16, test_share=0.5
    )


def records(data):
    """All records of both splits, in the order of the paths."""
    both = [source[number] for source in (data.train, data.test) for number in range(len(source))]
    return sorted(both, key=lambda record: record["path"])


def left_out(data):
    lines = [line.split(maxsplit=4) for line in data.description.splitlines() if "left out" in line]
    return {reason: int(count) for _, _, count, _, reason in lines}


def test_both_parts_are_read_and_share_nobody(write, open_imdb_wiki):
    write("imdb", [{"who": 7, "gender": 0.0}, {"who": 7, "gender": NAN}, {"who": 8}, {"who": NAN}])
    write("wiki", [{"who": "7"}, {"who": "Zoë Ö."}, {"who": ""}])
    data = open_imdb_wiki()
    assert "imdb_wiki: 7 rows read, 3 to train on, 4 to test on (50% at random, seed 0)" in data.description
    assert [(record["path"], record["identity"], record["gender"]) for record in records(data)] == [
        ("imdb_crop/00/0.jpg", "imdb 7", 0),
        ("imdb_crop/00/2.jpg", "imdb 8", 1),
        ("imdb_crop/01/1.jpg", "imdb 7", -1),
        ("imdb_crop/01/3.jpg", "", 1),
        ("wiki_crop/00/0.jpg", "wiki 7", 1),
        ("wiki_crop/00/2.jpg", "", 1),
        ("wiki_crop/01/1.jpg", "wiki Zoë Ö.", 1),
    ]
    record = records(data)[0]
    assert (record["age"], record["age_group"], record["fold"]) == (30, 4, -1)
    assert len(data.labels["age"]) == 101 and data.folds == ()


def test_one_part_alone_will_do(write, open_imdb_wiki, folder):
    write("wiki", [{}] * 4)
    assert len(records(open_imdb_wiki())) == 4
    (folder / "wiki_crop" / "wiki.mat").unlink()
    with pytest.raises(DataError, match=r"neither imdb_crop/imdb\.mat nor wiki_crop/wiki\.mat; wanted is the folder"):
        open_imdb_wiki()


def test_ages_are_completed_years_in_the_middle_of_the_year(write, open_imdb_wiki):
    born_and_taken = {
        (datetime.date(1980, 7, 1), 2010): 30,
        (datetime.date(1980, 7, 2), 2010): 29,
        (datetime.date(1980, 12, 31), 1981): 0,
        (datetime.date(1980, 1, 1), 1980): 0,
        (datetime.date(1904, 2, 29), 1999): 95,
        (datetime.date(1910, 7, 1), 2010): 100,
        (723_671.5, 2009): 28,  # noon of 5 May 1981
    }
    write("wiki", [{"dob": dob, "taken": taken} for dob, taken in born_and_taken])
    ages = {record["path"]: record["age"] for record in records(open_imdb_wiki())}
    assert [ages[f"wiki_crop/0{n % 2}/{n}.jpg"] for n in range(len(ages))] == list(born_and_taken.values())


RULES = [  # rows that break a rule, the rule
    ([{"taken": NAN}, {"taken": np.inf, "dob": 0}], "no year of the photograph"),
    ([{"dob": 0}, {"dob": 366}, {"dob": -5}, {"dob": 10**7}, {"dob": NAN}], "an impossible birth date"),
    (
        [{"taken": 1979}, {"taken": 0}, {"dob": datetime.date(1980, 7, 2), "taken": 1980}],
        "a photograph taken before birth",
    ),
    ([{"dob": datetime.date(1909, 7, 1)}, {"dob": 367}], "an age above 100"),
    ([{"score": -np.inf}, {"score": -np.inf, "second": 2.0}], "no face"),
    ([{"score": 0.99}], "a face score below 1.0"),
    ([{"second": 0.1}, {"second": 5.0}], "a second face"),
]


def test_a_row_is_counted_at_the_first_rule_that_it_breaks_and_its_image_is_not_read(write, open_imdb_wiki, folder):
    broken = [row for rows, _ in RULES for row in rows]
    everything = {"dob": 0, "score": -np.inf, "second": 3.0, "gender": NAN}
    write("imdb", [*broken, everything, {"score": 0.0, "second": 3.0}], images=False)  # read, they would be missing
    write("wiki", [{}, {"gender": NAN}, {"path": "../../out.jpg"}, {"path": "gone.jpg"}, {"path": "bad.jpg"}, {}, {}])
    (folder / "wiki_crop" / "gone.jpg").unlink()
    (folder / "wiki_crop" / "bad.jpg").write_text("no image")
    data = open_imdb_wiki()
    assert list(left_out(data).items()) == [
        ("no year of the photograph", 2),
        ("an impossible birth date", 6),
        ("a photograph taken before birth", 3),
        ("an age above 100", 2),
        ("no face", 2),
        ("a face score below 1.0", 2),
        ("a second face", 2),
        ("no image file", 1),
        ("an unreadable image file", 1),
        ("an image smaller than 60 pixels a side", 0),
        ("a path that leaves the folder", 1),
    ]
    assert len(records(data)) == 4 and "26 rows read" in data.description
    place = data.description.splitlines()[-2].removeprefix("  rows that cannot be used are listed in ")
    with open(place, newline="") as file:
        listed = list(csv.reader(file))
    assert listed[-2] == ["4", "wiki_crop/gone.jpg", "no image file"] and len(listed) == 1 + 22


def test_thresholds_are_settings(write, open_imdb_wiki, folder, save_face):
    write("imdb", [{"score": 0.5}, {"second": 1.5}, {"second": 2.5}, {"gender": NAN}, {}, {}])
    save_face(folder / "imdb_crop/00/4.jpg", size=(59, 80))
    assert len(records(open_imdb_wiki())) == 2
    assert left_out(open_imdb_wiki())["an image smaller than 60 pixels a side"] == 1
    data = open_imdb_wiki(min_face_score=0.4, max_second_face_score=2, need_gender=True, min_size=59)
    assert {reason: count for reason, count in left_out(data).items() if count} == {
        "a second face with a score above 2": 1,
        "no known gender": 1,
    }
    assert len(records(data)) == 4


def test_whole_images_keep_their_shape(write, open_imdb_wiki, folder, save_face):
    write("wiki", [{}] * 4)
    save_face(folder / "wiki_crop/00/2.jpg", size=(60, 120))
    sizes = [decode_image(record["image"], "").size for record in records(open_imdb_wiki(whole_image=True))]
    assert sorted(sizes) == [(8, 16), (16, 16), (16, 16), (16, 16)]
    assert {decode_image(record["image"], "").size for record in records(open_imdb_wiki())} == {(16, 16)}


def test_people_can_be_drawn_instead_of_images(write, open_imdb_wiki):
    write("imdb", [{"who": number // 4} for number in range(40)])
    data = open_imdb_wiki(by_person=True, test_share=0.2)
    people = [{source[number]["identity"] for number in range(len(source))} for source in (data.train, data.test)]
    assert (len(people[0]), len(people[1])) == (8, 2) and not people[0] & people[1]
    data = open_imdb_wiki(test_share=0.2)
    people = collections.Counter(data.test[number]["identity"] for number in range(len(data.test)))
    assert people.total() == 8 and len(people) > 2


def without(name):
    return lambda fields: {key: value for key, value in fields.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("photo_taken"), "imdb has no field photo_taken; wanted is the folder of imdb_crop"),
        (without("celeb_id"), "imdb has no field celeb_id"),
        (lambda fields: fields | {"gender": np.ones((1, 3))}, r"different lengths \(dob 2, photo_taken 2, gender 3"),
        (
            lambda fields: fields | {"full_path": np.ones((1, 2))},
            "the fields of imdb do not have the types of the orig",
        ),
        (
            lambda fields: fields | {"dob": cells(["a", "b"])},
            "the fields of imdb do not have the types of the original",
        ),
        (lambda fields: np.ones((1, 2)), r"imdb\.mat has no struct imdb"),
    ],
)
def test_another_layout_is_refused(folder, open_imdb_wiki, change, message):
    (folder / "imdb_crop").mkdir(parents=True)
    fields = struct("imdb", [GOOD | {"path": "a.jpg", "who": 1}] * 2)
    savemat(folder / "imdb_crop" / "imdb.mat", {"imdb": change(fields)})
    with pytest.raises(DataError, match=message) as error:
        open_imdb_wiki()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"imdb\.mat is not a whole \.mat file"),
        (b"no MATLAB at all, but some text that is long enough to have a header of 128 bytes" * 9, "is not a whole"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n".rjust(392), "not a whole .*7.3"),
    ],
)
def test_what_scipy_cannot_read_is_refused(folder, open_imdb_wiki, content, message):
    (folder / "imdb_crop").mkdir(parents=True)
    (folder / "imdb_crop" / "imdb.mat").write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        open_imdb_wiki()
    assert "\n" not in str(error.value)


def test_a_struct_of_another_name_is_refused(write, folder, open_imdb_wiki):
    write("wiki", [{}])
    (folder / "wiki_crop").rename(folder / "imdb_crop")
    (folder / "imdb_crop" / "wiki.mat").rename(folder / "imdb_crop" / "imdb.mat")
    with pytest.raises(DataError, match=r"imdb\.mat has no struct imdb"):
        open_imdb_wiki()


def test_real_portraits(shared, tmp_path):
    congress = shared("data/congress")
    with open(congress / "people.csv") as file:
        people = list(csv.DictReader(file))
    rows = [
        GOOD
        | {"dob": datetime.date.fromisoformat(person["birthdate"]), "taken": int(person["photo_date_est"][:4])}
        | {"path": f"{person['bioguide_id']}.jpg", "gender": float(person["gender"] == "M"), "who": person["name"]}
        for person in people
    ]
    (tmp_path / "wiki_crop").mkdir()
    savemat(tmp_path / "wiki_crop" / "wiki.mat", {"wiki": struct("wiki", rows)})
    for row in rows:
        (tmp_path / "wiki_crop" / row["path"]).write_bytes((congress / "portraits" / row["path"]).read_bytes())
    data = create_dataset("imdb_wiki", data_dir=tmp_path, cache_dir=tmp_path, resolution=32)
    assert "878 rows read, 790 to train on, 88 to test on" in data.description
    # Estimated to a tenth of a year on the day of the photograph, which is half a year from 1 July at most.
    estimated = {f"wiki_crop/{person['bioguide_id']}.jpg": float(person["age_est"]) for person in people}
    assert all(abs(record["age"] - estimated[record["path"]]) < 1.55 for record in records(data))
