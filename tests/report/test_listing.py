"""The rows of config files, as `--list` prints them."""

from itertools import islice

from ror_jax.report.listing import list_rows


def test_rows_are_those_that_papers_print_of_a_file():
    text, first = islice(list_rows("configs/ror.py"), 2)
    assert text.startswith("The RoR paper's experiments") and "`_sd`" in text
    command, network, *published = first.splitlines()
    assert command == "--config=configs/ror.py:imagenet,resnet18"
    assert network == "    resnet18; 11,689,512 parameters; only tested; from weights/resnet18"
    assert published == [
        "    published (deep_ror.toml): 28.22 % (Table VII); 9.42 % top-5 (Table VII)",
        "    published (ror.toml): 28.22 % (Table XIII); 9.42 % top-5 (Table XIII)",
    ]


def test_a_file_may_name_its_rows_itself(tmp_path):
    file = tmp_path / "mine.py"
    rows = ("cnn_4c2f,two_mechanisms", "preror58_sd,smoke,LW3")
    file.write_text(f"from configs.deep_ror import get_config\n\nROWS = {rows}\n")
    first, second = list_rows(str(file))
    assert first.splitlines() == [
        f"--config={file}:cnn_4c2f,two_mechanisms",
        "    cnn_4c2f; 11,415,048 parameters; 164 epochs of batches of 64, sgd, rate 0.01 divided by ten after 80 and"
        " 122; loss weights LW3; stages before: gender",
        "    published (deep_ror.toml): 53.96 ± 3.80 % exact (Table XI); 90.04 ± 1.54 % 1-off (Table XI); no number"
        " (Figure 6)",
    ]
    assert len(second.splitlines()) == 2  # nothing is published


def test_a_file_without_rows_is_one(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from configs.faces_csv import get_config as faces\n\n\ndef get_config():\n    return faces('gender')\n"
    )
    assert [text.splitlines()[0] for text in list_rows(str(file))] == [f"--config={file}"]
