"""What runs left in their folders, and in what each of them differs from the paper's experiment."""

import dataclasses
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np

import ror_jax
from ror_jax.config import load_config
from ror_jax.errors import UserError
from ror_jax.files import read_json
from ror_jax.models.weights import load_card
from ror_jax.saved_settings import FREE, flat_settings, read_settings
from ror_jax.tasks import task_labels
from ror_jax.tasks.metrics import metric as named
from ror_jax.training.logging import read_rows

CONFIGS = Path("configs")
# Settings that make no other experiment: a seed, a name, how often to test, where data and first weights lie. (Whether
# there are first weights does; `_start` looks at that.)
BESIDES = (*FREE, "name", "row", "seed", "test_every", "test_every_steps", "data_on_device", "init_from")
# What a run must have seen to be the paper's experiment.
IMAGES = {
    "cifar10": {"train": 50_000, "test": 10_000},
    "cifar100": {"train": 50_000, "test": 10_000},
    "svhn": {"train": 604_388, "test": 26_032},
    "imagenet": {"train": 1_281_167, "test": 50_000},
    "faces_csv": {"train": 34_708, "test": 8_677},  # multi-task article, section 3
}
# Of Adience, by label: the rows of each fold's list that have it; an age group by protocol levi.
ADIENCE = {"age_group": (4316, 3101, 3339, 2975, 3693), "gender": (4007, 3624, 3191, 3318, 3463)}


@dataclasses.dataclass(frozen=True)
class Run:
    """One run, as it was found.

    Attributes:
      row: FILE:ARGUMENT, FILE being that of a folder of configs without `.py`; None if it is no experiment of a paper.
      fold: that it was tested on; None for data without folds.
      settings: by dotted name, those that make the experiment; without the fold.
      differences: from the row's own settings, in words; empty if it is the paper's experiment to the end.
      epoch: how far it has come.
      split: name of the test that the next four are about; the first of several.
      place: the folder with the predictions and pictures of that test.
      results: of the last time that it was tested.
      tested: how many images have predictions; 0 before the run has ended.
      tests: its results over the epochs, with their `epoch`, as the log has them.
      images: of each split; empty before the run has ended, as are `answers`, what they are by name.
      groups: columns of text in the predictions by which results are broken down.
      age_groups: names of the groups that the number `age_group` of the predictions counts; empty if they have none.
      loss: in words.
      hours: of training for as many epochs as the paper's, at the median speed of this run; None if unknown.
      further: the same run for each further test.
    """

    folder: Path
    row: str | None
    name: str
    fold: int | None
    seed: int
    settings: dict
    differences: tuple[str, ...]
    epoch: float
    split: str
    place: Path
    results: dict
    tested: int
    tests: tuple[dict, ...]
    images: dict[str, int]
    answers: dict[str, dict]
    groups: tuple[str, ...]
    age_groups: tuple[str, ...]
    loss: str
    hours: float | None
    further: tuple["Run", ...] = ()

    @property
    def task(self) -> str:
        return self.settings["task.name"]

    @property
    def small(self) -> bool:
        """Whether it saw a part of the images only."""
        return self.settings["dataset.limit"] is not None

    def value(self, metric: str) -> float | None:
        """A result by name, as it is shown; an `error` is the complement of a share."""
        return self.hours if metric == "hours" else _shown(metric, self.results)

    def curve(self, metric: str) -> list[tuple[float, float]]:
        """(epoch, result) of all tests that have it."""
        points = ((test["epoch"], _shown(metric, test)) for test in self.tests)
        return [(epoch, value) for epoch, value in points if value is not None]

    def text(self, metric: str) -> str:
        """A result with the digits that it is shown with; empty where there is none."""
        return "" if (value := self.value(metric)) is None else f"{value:.{named(metric).digits}f}"

    def configuration(self, *, but: str = "") -> str:
        """The same for runs that differ in their fold alone, and perhaps in the setting `but`."""
        return json.dumps([self.seed, {key: value for key, value in self.settings.items() if key != but}])


def find_runs(folder: Path | str, configs: Path | None = None) -> tuple[list[Run], list[str]]:
    """All runs below `folder` that were tested, and a line for each folder that could not be read.

    `configs` is as for `row_settings`.

    Raises:
      UserError: there is no such folder, or nothing in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; --runs takes the one that runs are in, by default runs")
    if not any(folder.iterdir()):
        raise UserError(f"{folder} is empty; train something first: python -m ror_jax.main --config=configs/...")
    runs, problems = [], []
    for path in sorted(folder.rglob("config.json")):
        try:
            if run := read_run(path.parent, configs):
                runs.append(run)
        except UserError as error:
            problems.append(f"left out {path.parent}: {error}")
    return runs, problems


def read_run(folder: Path, configs: Path | None = None) -> Run | None:
    """The run in that folder; None if it was not tested yet. `configs` is as for `row_settings`.

    Raises:
      UserError: files are damaged, or of another version of the program.
    """
    try:
        return _read_run(folder, configs)
    except UserError:
        raise
    except (ArithmeticError, AttributeError, ImportError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise UserError(f"the files in {folder} are damaged: {type(error).__name__}: {error}") from error


def _read_run(folder: Path, configs: Path | None) -> Run | None:
    found = read_settings(folder / "config.json")
    rows = read_rows(folder / "metrics.jsonl")
    trained = max((row["epoch"] for row in rows), default=0)
    if (path := folder / "summary.json").exists():
        summary = read_json(path)
    elif split := next((row["split"] for row in rows if row["split"].startswith("test")), None):
        last = _tests(rows, split)[-1]
        summary = {"epoch": last["epoch"], "split": split, "test": last, "images": {}}
    else:
        return None
    row = found.get("row")
    paper = row_settings(row, configs) if row else {}
    settings = {key: value for key, value in found.items() if _matters(key)}
    tested = summary.get("split", "test")  # a run of before version 0.2 does not say it
    run = Run(
        folder=folder,
        row=row,
        name=found["name"],
        fold=found["dataset.fold"],
        seed=found["seed"],
        settings=settings | {"init_from": found["init_from"] and "weights"},
        differences=_differences(folder, found, paper, summary, max(summary["epoch"], trained)) if row else (),
        epoch=summary["epoch"],
        split=tested,
        place=folder,
        results=summary["test"],
        tested=summary.get("tested", 0),
        tests=_tests(rows, tested),
        images=summary["images"],
        answers=summary.get("answers", {}),
        groups=tuple(summary.get("groups", ())),
        age_groups=tuple(summary.get("age_groups", ())),
        loss=summary.get("loss", ""),
        hours=_hours(rows, found, paper["epochs"]) if row else None,
    )
    further = summary.get("further_tests", {})
    others = (
        dataclasses.replace(run, split=split, place=folder / split, tests=_tests(rows, split), **further[split])
        for split in further
    )
    return dataclasses.replace(run, further=tuple(others))


def _tests(rows: list[dict], split: str) -> tuple[dict, ...]:
    return tuple(row for row in rows if row["split"] == split)


def _shown(metric: str, results: dict) -> float | None:
    key = {"error": "exact" if "exact" in results else "accuracy", "top_5_error": "top_5"}.get(metric, metric)
    if key not in results:
        return None
    return named(metric).factor * (results[key] if key == metric else 1 - results[key])


def _matters(key: str) -> bool:
    """Whether a setting, by dotted name, makes another experiment; in another fold it is the same one."""
    if key.startswith("stage."):
        key = key.split(".", 2)[2]
    return key != "dataset.fold" and key.split(".")[0] not in BESIDES


def _differences(folder: Path, found: dict, paper: dict, summary: dict, trained: float) -> tuple[str, ...]:
    """In what a run that was `trained` for so many epochs is not the paper's experiment."""
    differences = [
        f"{key} {in_words(found[key])} instead of {in_words(paper[key])}"
        for key in sorted(found.keys() & paper.keys())
        if found[key] != paper[key] and _matters(key)
    ]
    differences += _start(folder, found, paper)
    if found["dataset.name"] == paper["dataset.name"]:
        whole = _whole(paper, found["dataset.fold"])
        for split, number in summary["images"].items():
            if split in whole and number != whole[split]:
                differences.append(f"{number} {split} images instead of {whole[split]}")
    if (selected := summary.get("selected", "last epoch")) != "last epoch":
        differences.append(f"{selected} instead of the last one")
    if trained < found["epochs"]:
        differences.append(f"stopped after {trained:.4g} of {found['epochs']} epochs")
    return tuple(differences)


def _start(folder: Path, found: dict, paper: dict) -> list[str]:
    """What differs in the weights that the run began with, or that the first of its stages did."""
    start = found["init_from"]
    if start and (paper["stages"] or paper["init_from"]):  # what it began with may have begun with others
        start = _first_card(folder) and "pretrained weights"
    if (start is None) != (paper["init_from"] is None):
        return ["from scratch" if start is None else f"from {start}"]
    if start and _first_card(folder)["overrides"].get("new_shortcut_init", "he") == "zero":
        return ["new shortcuts zero instead of he"]
    return []


def _first_card(folder: Path) -> dict | None:
    """The card of the converted weights or the exported model that a run goes back to, be it through others.

    None if it began with neither.
    """
    card = load_card(folder)["init_from"]
    while card and "init_from" in card and "format" not in card:
        card = card["init_from"]
    return card


def _whole(paper: dict, fold: int) -> dict[str, int]:
    """How many images the paper's experiment has."""
    if paper["dataset.name"] != "adience":
        return IMAGES[paper["dataset.name"]]
    rows = next(ADIENCE[label] for label in task_labels(paper["task.name"]) if label in ADIENCE)
    return {"train": sum(rows) - rows[fold], "test": rows[fold]}


def _hours(rows: list[dict], found: dict, epochs: int) -> float | None:
    """Time for so many epochs at the median speed of those that were logged."""
    trained = [row for row in rows if row["split"] == "train"]
    speeds = [row["images_per_second"] for row in trained if "images_per_second" in row]
    if not speeds or found["dataset.limit"]:
        return None
    images_per_epoch = trained[0]["step"] / trained[0]["epoch"] * found["batch_size"]
    return epochs * images_per_epoch / float(np.median(speeds)) / 3600


@cache
def row_settings(row: str, configs: Path | None = None) -> dict:
    """The settings of the row FILE:ARGUMENT by dotted name.

    Args:
      configs: the folder that has FILE.py; by default `configs` in the current directory, or else beside this package.

    Raises:
      UserError: there is no such row; another version of the program may have had it.
    """
    if configs is None:
        configs = CONFIGS if CONFIGS.is_dir() else Path(ror_jax.__file__).parents[1] / CONFIGS
    file, _, argument = row.partition(":")
    try:
        if not re.fullmatch(r"[\w-]+(/[\w-]+)*", file):  # it is run as a program
            raise UserError("it names no file of a folder of configs")
        return flat_settings(load_config(f"{configs / file}.py:{argument}"))
    except UserError as error:
        words = f"its row {row!r} does not exist: {error}; correct `row` in its config.json, or set it to null"
        raise UserError(words) from error


def in_words(value) -> str:
    """A setting, for a person."""
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def configurations(runs: list[Run]) -> list[list[Run]]:
    """Groups of runs that differ in their fold alone, one a fold: of several, the one that has come farthest."""
    groups: dict[str, dict[int | None, Run]] = {}
    for run in runs:
        group = groups.setdefault(run.configuration(), {})
        if run.fold not in group or run.epoch >= group[run.fold].epoch:
            group[run.fold] = run
    return [sorted(group.values(), key=lambda run: -1 if run.fold is None else run.fold) for group in groups.values()]


def name_folds(folds: Iterable[int | None]) -> str:
    """Folds in words."""
    numbers = [str(fold) for fold in folds if fold is not None]
    return f"fold{'s' * (len(numbers) > 1)} {', '.join(numbers)}" if numbers else "one split"


def choose(runs: list[Run], row: str, folds: list[int]) -> list[Run]:
    """The runs that stand for a row, on these folds if any are named.

    Those with the paper's settings, one a fold and seed; or else those of one configuration, one a fold: the one that
    has seen all images, has most folds, has come farthest.
    """
    candidates = [run for run in runs if run.row == row and (not folds or run.fold in folds)]
    exact = {(run.fold, run.seed): run for run in candidates if not run.differences}
    groups = sorted(
        configurations(candidates), key=lambda group: (not group[0].small, len(group), max(run.epoch for run in group))
    )
    return list(exact.values()) or (groups[-1] if groups else [])


def references(chosen: list[Run], runs: list[Run]) -> str:
    """The numbers of some runs in a list of runs, counted from 1: "[1-3, 7]"."""
    numbers = sorted(runs.index(run) + 1 for run in chosen)
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    spans = (str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))
    return f"[{', '.join(spans)}]"
