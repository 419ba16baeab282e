"""A paper's tables and figures with its published numbers beside ours.

The published numbers are in a `.toml` beside this file; each cell names the experiment, FILE:ARGUMENT of `configs/`,
that makes the same number here. Ours are read from what runs left behind, and from nowhere else.
"""

import os
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np

from ror_jax.errors import unknown
from ror_jax.report.analysis import mean_and_deviation
from ror_jax.report.folds import AGING_GROUPS, aging_curves, fold_sections
from ror_jax.report.page import Picture, Section, Table, write_page
from ror_jax.report.panels import save_page
from ror_jax.report.runs import Run, choose, references
from ror_jax.tasks.metrics import metric as named

FOLDER = Path(__file__).parent
KINDS = ("aging", "bars", "curves")  # of figures


def list_papers() -> list[str]:
    """Returns the names of all papers."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_paper(name: str) -> dict:
    """The published numbers of a paper as its `.toml` has them, with all digits that were printed and no other.

    Every cell of a table or figure gets its `metric` and its `folds`.

    Raises:
      UserError: there is no such paper.
    """
    if name not in list_papers():
        raise unknown("paper", name, list_papers())
    text = (FOLDER / f"{name}.toml").read_text()
    paper = {"metrics": ["error"], "curve": "error", "folds": [], "tasks": []} | tomllib.loads(
        text, parse_float=Decimal
    )
    for table in paper["tables"]:
        metrics = table.get("metrics", ["error"] * len(table["columns"]))
        for _, *row in table["rows"]:
            for cell, metric in zip(row, metrics, strict=True):
                cell.update(metric=metric, folds=table.get("folds", paper["folds"]))
    for figure in paper["figures"]:
        for cell in figure[_kind(figure)]:
            cell.update(metric=figure.get("metric", "error"), folds=figure.get("folds", paper["folds"]))
    return paper


def _kind(figure: dict) -> str:
    return next(kind for kind in KINDS if kind in figure)


def cells(paper: dict) -> Iterator[tuple[str, dict]]:
    """Every cell of the tables and figures, with where it stands."""
    for table in paper["tables"]:
        for _, *row in table["rows"]:
            yield from ((f"Table {table['number']}", cell) for cell in row)
    for figure in paper["figures"]:
        yield from ((f"Figure {figure['number']}", entry) for entry in figure[_kind(figure)])


def published(cell: dict) -> str:
    """The number of a cell as it was printed, with its deviation if it has one; empty where there is none."""
    number = cell.get("published", "")
    return " ± ".join(map(str, number)) if isinstance(number, list) else str(number)


def runs_of(paper: dict, runs: list[Run]) -> list[Run]:
    """Those of this paper's rows, in its tables or not: they begin with one of its `row_prefixes`."""
    return [run for run in runs if run.row and run.row.startswith(tuple(paper["row_prefixes"]))]


def write_report(paper: dict, runs: list[Run], folder: Path, name: str) -> tuple[list[Path], list[str]]:
    """Writes NAME.md, NAME.html and the pictures on them to `folder`.

    Args:
      runs: all that were found; what the paper has no row for is only in what is said of folds.

    Returns:
      The paths of the page and of the figures, and a line for each group of runs that could not be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours = runs_of(paper, runs)
    known = [run for run in runs if set(run.task.split("+")) <= set(paper["tasks"])]
    details, problems = fold_sections(known, ours, folder, name)
    picture = folder / f"{name}.png"
    drawn = save_page(_panels(paper, runs, ours), picture)
    sections = [
        Section(paper["title"], [_legend(paper, ours)]),
        *(_table(table, ours) for table in paper["tables"]),
        *_other_rows(paper, ours),
        *(
            [Section("Figures", [Picture(picture, "Results of our runs over the epochs, and the published ones")])]
            if drawn
            else []
        ),
        *details,
        *_run_list(paper, ours, folder),
    ]
    return write_page(sections, folder, name) + [picture] * drawn, problems


def _legend(paper: dict, runs: list[Run]) -> str:
    if not runs:
        return "Published numbers; no runs of the paper's rows were found."
    folds = (
        " Of several folds: the mean ± sample standard deviation (n - 1) over those that are there; seeds of one fold"
        " are averaged first."
    )
    return (
        f"{paper['numbers']} *Ours* is the last epoch's, or of a run with images for validation the best on these."
        " A number in brackets names a"
        " run of the list at the end: **it was not the paper's experiment**, and the list says in what it differed."
        " Without brackets: the paper's settings, the mean ± standard deviation (n - 1) over so many seeds."
        f"{folds if paper['folds'] else ''}"
    )


def _table(table: dict, runs: list[Run]) -> Section:
    page = f", page {table['page']}" if "page" in table else ""
    rows = []
    for label, *row in table["rows"]:
        rows.append([label, *map(published, row)])
        if any("run" in cell for cell in row):
            rows.append(["*ours*", *(_ours(cell, runs) for cell in row)])
    return Section(f"Table {table['number']}: {table['caption']}{page}", [Table(["", *table["columns"]], rows)])


def _ours(cell: dict, runs: list[Run]) -> str:
    """Our number for a cell, over its folds or else over seeds; how many there are, and which runs if they differ."""
    chosen = choose(runs, cell["run"], cell["folds"]) if "run" in cell else []
    values: dict[int | None, list[float]] = {}  # by fold, a number a seed
    for run in chosen:
        if (value := run.value(cell["metric"])) is not None:
            values.setdefault(run.fold, []).append(value)
    if not values:
        return ""
    if (wanted := len(cell["folds"])) > 1 or len(values) > 1:
        numbers = [float(np.mean(seeds)) for seeds in values.values()]
        of_all = f" of {wanted}" if wanted else ""
        count = f" ({len(numbers)}{of_all} folds)" if len(numbers) != wanted else ""
    else:
        (numbers,) = values.values()
        count = f" ({len(numbers)})" if len(numbers) > 1 else ""
    number = f" {references(chosen, runs)}" if chosen[0].differences else ""
    return mean_and_deviation(numbers, named(cell["metric"]).digits) + count + number


def _other_rows(paper: dict, runs: list[Run]) -> list[Section]:
    tabled = {cell["run"] for place, cell in cells(paper) if "run" in cell and place.startswith("Table")}
    rows = sorted({run.row for run in runs} - tabled)
    if not rows:
        return []
    several = len(paper["metrics"]) > 1
    columns = ["row", *(f"ours, {named(metric).label}" if several else "ours" for metric in paper["metrics"])]
    found = [[row, *(_ours(_cell(paper, row, metric, runs), runs) for metric in paper["metrics"])] for row in rows]
    return [Section("Rows that are in none of the paper's tables", [Table(columns, found)])]


def _cell(paper: dict, row: str, metric: str, runs: list[Run]) -> dict:
    """A cell for a row that the paper does not print; its data may have no folds."""
    folds = paper["folds"] if any(run.row == row and run.fold is not None for run in runs) else []
    return {"run": row, "metric": metric, "folds": folds}


def _run_list(paper: dict, runs: list[Run], folder: Path) -> list[Section]:
    if not runs:
        return []
    metrics, folds = paper["metrics"], bool(paper["folds"])
    results = [named(metric).label for metric in metrics]
    columns = ["", "row", *["fold"] * folds, "seed", "epochs", *results, *["images"] * folds]
    rows = [
        [
            f"[{number}]",
            run.row,
            *["" if run.fold is None else str(run.fold)] * folds,
            str(run.seed),
            f"{run.epoch:.4g}",
            *map(run.text, metrics),
            *[", ".join(f"{count} {split}" for split, count in run.images.items())] * folds,
            "; ".join(run.differences) or "no",
            os.path.relpath(run.folder, folder),
        ]
        for number, run in enumerate(runs, start=1)
    ]
    align = "ll" + "r" * (len(columns) - 2) + "ll"
    return [Section("Runs", [Table([*columns, "differs from the paper's settings", "folder"], rows, align)])]


# --- Pictures -------------------------------------------------------------------------------------------------------


def _panels(paper: dict, runs: list[Run], ours: list[Run]) -> list[dict]:
    """What `save_page` draws: the paper's figures for which there are runs, and curves of our other rows.

    Of the latter, those that differ in their last word alone share a panel.
    """
    panels, drawn = [], set()
    for figure in paper["figures"]:
        kind = _kind(figure)
        drawn |= {entry["run"] for entry in figure[kind]}
        entries = [_with_runs(entry, ours, kind) for entry in figure[kind]]
        if kind == "aging":  # all networks that were asked, whether the paper did or not
            entries = aging_curves(runs, ours)
        if any(entry["runs"] for entry in entries):
            page = f", page {figure['page']}" if "page" in figure else ""
            title = f"Figure {figure['number']}: {figure['caption']}{page}"
            metric = figure.get("metric", "error")
            panels.append({"title": title, kind: entries, "metric": metric, "groups": AGING_GROUPS})
    metric = paper["curve"]
    rest = sorted({run.row for run in ours if run.curve(metric)} - drawn)
    for start in sorted({row.rpartition(",")[0] for row in rest}):
        rows = [row for row in rest if row.startswith(f"{start},")]
        labelled = [_cell(paper, row, metric, ours) | {"label": row.rpartition(",")[2]} for row in rows]
        entries = [_with_runs(entry, ours, "curves") for entry in labelled]
        title = f"Rows that are in none of the paper's figures: {start}"
        panels.append({"title": title, "curves": entries, "metric": metric})
    return panels


def _with_runs(entry: dict, runs: list[Run], kind: str) -> dict:
    """An entry of a figure with the runs that stand for it, and the mean of their results as `ours`."""
    chosen = choose(runs, entry["run"], entry["folds"])
    chosen = [run for run in chosen if kind != "curves" or run.curve(entry["metric"])]
    values = [value for run in chosen if (value := run.value(entry["metric"])) is not None]
    number = f" {references(chosen, runs)}" if chosen and chosen[0].differences else ""
    ours = {"ours": np.mean(values)} if values else {}
    return entry | {"runs": chosen, "label": entry["label"] + number} | ours
