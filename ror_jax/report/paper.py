"""A paper's tables and figures with its published numbers beside ours.

The published numbers are in a `.toml` beside this file; each cell names the experiment, FILE:ROW of `configs/`, that
makes the same number here. Ours are read from what runs left behind, and from nowhere else.
"""

import dataclasses
import importlib
import json
import os
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from ror_jax.errors import UserError, unknown
from ror_jax.models.weights import load_card
from ror_jax.report.figures import save_page
from ror_jax.training.logging import read_rows
from ror_jax.training.workdir import FREE, flat_settings

FOLDER = Path(__file__).parent
# Settings that make no other experiment: a seed, a name, how often to test, where data and first weights lie. (Whether
# there are first weights does; `_read_run` looks at that.)
BESIDES = (*FREE, "name", "row", "seed", "test_every", "test_every_steps", "data_on_device", "init_from")
# What a run must have seen to be the paper's experiment.
IMAGES = {
    "cifar10": {"train": 50_000, "test": 10_000},
    "cifar100": {"train": 50_000, "test": 10_000},
    "svhn": {"train": 604_388, "test": 26_032},
    "imagenet": {"train": 1_281_167, "test": 50_000},
}


def load_paper(name: str) -> dict:
    """The published numbers of a paper: `title`, `tables`, `figures`.

    Raises:
      UserError: there is no such paper.
    """
    papers = [path.stem for path in FOLDER.glob("*.toml")]
    if name not in papers:
        raise unknown("paper", name, papers)
    return tomllib.loads((FOLDER / f"{name}.toml").read_text())


def cells(paper: dict) -> Iterator[tuple[str, dict]]:
    """Every cell of the tables and figures, with where it stands."""
    for table in paper["tables"]:
        for _, *row in table["rows"]:
            yield from ((f"Table {table['number']}", cell) for cell in row)
    for figure in paper["figures"]:
        yield from ((f"Figure {figure['number']}", entry) for entry in figure.get("bars") or figure["curves"])


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of one row, as it was found.

    Attributes:
      row: FILE:ROW.
      differences: from the row's own settings, in words; empty if it is the paper's experiment to the end.
      epoch: how far it has come.
      results: of the last test.
      curve: (epoch, test error in percent) of all tests.
      hours: of training for as many epochs as the paper's, at the median speed of this run; None if unknown.
      small: it saw a part of the images only.
    """

    folder: Path
    row: str
    seed: int
    differences: tuple[str, ...]
    epoch: float
    results: dict
    curve: tuple[tuple[float, float], ...]
    hours: float | None
    small: bool

    def value(self, metric: str) -> float | None:
        """`error` or `top_5_error` in percent, or `hours`."""
        if metric == "hours":
            return self.hours
        key = {"error": "accuracy", "top_5_error": "top_5"}[metric]
        return 100 * (1 - self.results[key]) if key in self.results else None


def find_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """All runs of rows below `folder`, and a line for each folder that could not be read.

    Raises:
      UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    runs, problems = [], []
    for path in sorted(folder.rglob("config.json")):
        place = path.parent
        try:
            settings = json.loads(path.read_text())
            if settings.get("row") and (run := _read_run(place, settings)):
                runs.append(run)
        except (ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
            problems.append(f"left out {place}, whose files are damaged: {type(error).__name__}: {error}")
    return runs, problems


def _read_run(folder: Path, settings: dict) -> Run | None:
    """The run in that folder; None if it was not tested yet."""
    rows = read_rows(folder / "metrics.jsonl")
    tests = [row for row in rows if row["split"] == "test"]
    images = {}
    if (summary := folder / "summary.json").exists():
        content = json.loads(summary.read_text())
        epoch, results, images = content["epoch"], content["test"], content["images"]
    elif tests:
        epoch, results = tests[-1]["epoch"], tests[-1]
    else:
        return None
    paper = row_settings(settings["row"])
    found = flat_settings(settings)
    differences = [
        f"{key} {_short(found[key])} instead of {_short(paper[key])}"
        for key in sorted(found.keys() & paper.keys())
        if found[key] != paper[key] and key.split(".")[0] not in BESIDES
    ]
    if (found["init_from"] is None) != (paper["init_from"] is None):
        differences.append("from scratch" if paper["init_from"] else f"from {found['init_from']}")
    elif found["init_from"] and _new_shortcut_init(folder) == "zero":
        differences.append("new shortcuts zero instead of he")
    for split, number in images.items():
        whole = IMAGES[settings["dataset"]["name"]][split]
        if number != whole:
            differences.append(f"{number} {split} images instead of {whole}")
    if epoch < settings["epochs"]:
        differences.append(f"stopped after {epoch:.4g} of {settings['epochs']} epochs")
    curve = tuple((row["epoch"], 100 * (1 - row["accuracy"])) for row in tests)
    return Run(
        folder,
        settings["row"],
        settings["seed"],
        tuple(differences),
        epoch,
        results,
        curve,
        _hours(rows, settings, paper["epochs"]),
        small=found["dataset.limit"] is not None,
    )


def _new_shortcut_init(folder: Path) -> str:
    """How the weights that the run began with were made into a RoR, as the run's own card remembers."""
    overrides = load_card(folder)["init_from"]["overrides"]
    return overrides.get("new_shortcut_init", "he")


def _hours(rows: list[dict], settings: dict, epochs: int) -> float | None:
    """Time for so many epochs at the median speed of those that were logged."""
    trained = [row for row in rows if row["split"] == "train"]
    speeds = [row["images_per_second"] for row in trained if "images_per_second" in row]
    if not speeds or settings["dataset"]["limit"]:
        return None
    images_per_epoch = trained[0]["step"] / trained[0]["epoch"] * settings["batch_size"]
    return epochs * images_per_epoch / float(np.median(speeds)) / 3600


@cache
def row_settings(row: str) -> dict:
    """The settings of FILE:ROW by dotted name."""
    file, _, name = row.partition(":")
    config = importlib.import_module(f"configs.{file}").get_config(name)
    return flat_settings(json.loads(config.to_json_best_effort()))


def _short(value) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def choose(runs: list[Run], row: str) -> list[Run]:
    """The runs that stand for a row: one a seed with the paper's settings; or else the one that has come farthest."""
    candidates = [run for run in runs if run.row == row]
    exact = {run.seed: run for run in candidates if not run.differences}
    return list(exact.values()) or sorted(candidates, key=lambda run: (not run.small, run.epoch))[-1:]


# --- Markdown -------------------------------------------------------------------------------------------------------


def write_report(paper: dict, runs: list[Run], folder: Path, name: str) -> list[Path]:
    """Writes NAME.md and, if there is anything to draw, NAME.png to `folder`; returns their paths."""
    picture = folder / f"{name}.png"
    drawn = save_page(_panels(paper, runs), picture)
    lines = [f"# {paper['title']}", "", _legend(runs), ""]
    for table in paper["tables"]:
        lines += [*_table(table, runs), ""]
    tabled = {cell["run"] for place, cell in cells(paper) if "run" in cell and place.startswith("Table")}
    lines += _other_rows(tabled, runs)
    if drawn:
        lines += ["## Figures", "", f"![Test errors of our runs, and the published ones]({picture.name})", ""]
    lines += _run_list(runs, folder)
    text = folder / f"{name}.md"
    text.write_text("\n".join(lines).rstrip() + "\n")
    return [text, picture] if drawn else [text]


def _legend(runs: list[Run]) -> str:
    if not runs:
        return "Published numbers; no runs were found."
    return (
        "Test error in percent, unless a table says otherwise. *Ours* is the last epoch's. A number in brackets names a"
        " run of the list at the end: **it was not the paper's experiment**, and the list says in what it differed."
        " Without brackets: the paper's settings, the mean ± standard deviation (n - 1) over so many seeds."
    )


def _table(table: dict, runs: list[Run]) -> list[str]:
    page = f", page {table['page']}" if "page" in table else ""
    lines = [f"## Table {table['number']}: {table['caption']}{page}", ""]
    lines += ["| | " + " | ".join(table["columns"]) + " |", "|---|" + "---:|" * len(table["columns"])]
    for label, *row in table["rows"]:
        published = [f"{cell['published']:.2f}" if "published" in cell else "" for cell in row]
        lines.append(f"| {label} | " + " | ".join(published) + " |")
        if any("run" in cell for cell in row):
            ours = [_ours(cell, runs) for cell in row]
            lines.append("| *ours* | " + " | ".join(ours) + " |")
    return lines


def _ours(cell: dict, runs: list[Run]) -> str:
    chosen = choose(runs, cell["run"]) if "run" in cell else []
    values = [value for run in chosen if (value := run.value(cell.get("metric", "error"))) is not None]
    if not values:
        return ""
    if chosen[0].differences:
        return f"{values[0]:.2f} [{runs.index(chosen[0]) + 1}]"
    spread = f" ± {np.std(values, ddof=1):.2f} ({len(values)})" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


def _other_rows(tabled: set[str], runs: list[Run]) -> list[str]:
    rows = sorted({run.row for run in runs} - tabled)
    if not rows:
        return []
    lines = ["## Rows that are in none of the paper's tables", "", "| row | ours |", "|---|---:|"]
    return [*lines, *(f"| {row} | {_ours({'run': row}, runs)} |" for row in rows), ""]


def _run_list(runs: list[Run], folder: Path) -> list[str]:
    if not runs:
        return []
    lines = ["## Runs", "", "| | row | seed | epochs | test error | differs from the paper's settings | folder |"]
    lines.append("|---|---|---:|---:|---:|---|---|")
    for number, run in enumerate(runs, start=1):
        differences = "; ".join(run.differences) or "no"
        numbers = f"{run.seed} | {run.epoch:.4g} | {run.value('error'):.2f}"
        lines.append(f"| [{number}] | {run.row} | {numbers} | {differences} | {os.path.relpath(run.folder, folder)} |")
    return lines


# --- Pictures -------------------------------------------------------------------------------------------------------


def _panels(paper: dict, runs: list[Run]) -> list[dict]:
    """What `save_page` draws: the paper's figures for which there are runs, and our other rows by data set."""
    panels, drawn = [], set()

    def with_runs(entry: dict) -> dict:
        chosen = [run for run in choose(runs, entry["run"]) if run.curve]
        number = f" [{runs.index(chosen[0]) + 1}]" if chosen and chosen[0].differences else ""
        return entry | {"runs": chosen, "label": entry["label"] + number}

    for figure in paper["figures"]:
        kind = "bars" if "bars" in figure else "curves"
        entries = [with_runs(entry) for entry in figure[kind]]
        drawn |= {entry["run"] for entry in entries}
        if any(entry["runs"] for entry in entries):
            page = f", page {figure['page']}" if "page" in figure else ""
            panels.append({"title": f"Figure {figure['number']}: {figure['caption']}{page}", kind: entries})
    rest = sorted({run.row for run in runs if run.curve} - drawn)
    for data in sorted({row.partition(":")[0] for row in rest}):
        names = [row.partition(":")[2] for row in rest if row.startswith(f"{data}:")]
        entries = [with_runs({"label": name, "run": f"{data}:{name}"}) for name in names]
        panels.append({"title": f"Rows that are in none of the paper's figures: {data}", "curves": entries})
    return panels
