"""The multi-task article's page, from a run that learns nothing much."""

import json

import pytest

from ror_jax.report.__main__ import main
from ror_jax.runs.run import train_and_test

SETTINGS = {
    "row": "age_gender:resnet18,pretrained",
    "task__name": "age_gender",
    "model__mlp_widths": (8,),
    "optimizer__learning_rate": 0.001,
}


@pytest.fixture(scope="module")
def page(tiny_config, tmp_path_factory):
    """The page of the runs on two folds, and their results."""
    folder = tmp_path_factory.mktemp("runs")
    results = []
    for fold in (0, 1):
        train_and_test(tiny_config(**SETTINGS, dataset__fold=fold), folder / f"fold_{fold}")
        results.append(json.loads((folder / f"fold_{fold}" / "summary.json").read_text())["test"])
    main(["--paper=multitask", f"--runs={folder}"])
    return (folder / "multitask.md").read_text(), results


def cells(text, start):
    line = next(line for line in text.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def mean(results, metric):
    return sum(result[metric] for result in results) / len(results)


def test_published_numbers_and_ours(page):
    text, results = page
    assert cells(text, "ConvNeXt-Tiny") == ["8.12", "5.66", "0.940", "0.821"]
    ours = cells(text.split("| ResNet18 |")[1], "*ours*")
    assert ours[0].startswith(f"{mean(results, 'rmse'):.2f} ± ") and "(2 folds)" in ours[0]
    assert ours[3].startswith(f"{mean(results, 'harmonic'):.4f} ± ")
    assert "dataset.name rendered_faces instead of faces_csv" in text and "; from scratch |" in text


def test_what_a_blind_answer_reaches(page):
    text, results = page
    blind = cells(text, "the same answer to all images, as the training labels suggest")
    baselines = [result["baseline"] for result in results]
    assert blind[:3] == ["24", f"{mean(baselines, 'harmonic'):.4f}", f"{mean(baselines, 'rmse'):.2f}"]


def test_errors_by_decade(page):
    """They hold all images, and their mean, weighted, is the error of all."""
    text, results = page
    rows = [cells(text, f"{first}-{first + 9}") for first in range(0, 100, 10) if f"| {first}-{first + 9} |" in text]
    counts = [int(row[3].split(" / ")[0]) for row in rows]
    assert sum(counts) == 24
    errors = [float(row[0].split()[0]) for row in rows]
    found = sum(count * error for count, error in zip(counts, errors, strict=True)) / 24
    assert found == pytest.approx(mean(results, "mae"), abs=0.1)
