"""What a run says when it is done: the result in words, in JSON and in pictures."""

from operator import itemgetter
from pathlib import Path

import numpy as np

from input_pipeline.records import Source
from ror_jax.files import replace_json, writing
from ror_jax.report.baseline import baseline
from ror_jax.report.figures import TEST, VALIDATION, draw_answers, save_curves, save_examples
from ror_jax.report.intervals import calibrate, coverage_words
from ror_jax.report.predictions import Predictions, write_predictions, write_submission
from ror_jax.tasks.answers import Points
from ror_jax.tasks.metrics import metric
from ror_jax.tasks.task import Task, state_to_json
from ror_jax.training.experiment import Experiment
from ror_jax.training.state import TrainState

EXAMPLES = 24
SHOWN_CLASSES = 10


def summarize(
    experiment: Experiment,
    state: TrainState,
    selected: str,
    best_step: int | None,
    tests: dict[str, tuple[dict, Predictions]],
    validation: list[Predictions],
    rows: list[dict],
    folder: Path,
) -> str:
    """Writes `predictions.csv`, pictures and, last of all, `summary.json` to `folder`; returns the words.

    Of further tests, what belongs to one goes to a folder of its name in `folder`.

    Args:
      selected: how `state` was, in words.
      best_step: the step of the best epoch, see `Checkpoints`; None if none was tested on.
      tests: by name of the split, its results and predictions.
      validation: the predictions for each split for validation.
      rows: those of the run's `metrics.jsonl`.
    """
    task, dataset, step = experiment.task, experiment.dataset, int(state.step)
    epoch = step / experiment.steps_per_epoch
    lines, results = [], {}
    for split, (measured, predictions) in tests.items():
        place = folder if not results else folder / split
        with writing(place):
            place.mkdir(exist_ok=True)
        source = dataset.tests[split]
        predictions = write_predictions(predictions, source, place)
        write_submission(predictions, source, place)
        blind = baseline(task, dataset.train, source)
        results[split] = measured | ({"baseline": blind} if blind else {})
        worth = _worth(task, results[split])
        title = f"{task.line(measured)}\n{worth and f'({worth})'}".replace("_", " ")
        draw_answers(predictions.judged(), f"{place}/", title)
        _draw_examples(experiment, source, predictions, title, place)
        what = "Test" if split == "test" else f"Test on {split}"
        images = f"({len(predictions)} images{worth and f'; {worth}'})"
        lines += [f"{what} after epoch {epoch:g}: {task.line(measured)}   {images}", *_recalls(measured)]
        lines += [line for group in dataset.groups for line in _by_group(predictions, group)]
    first, *others = results
    if rows:
        save_curves(rows, [name for name in task.plotted if name in results[first]], folder / "curves.png")

    intervals = calibrate(validation, {split: predictions for split, (_, predictions) in tests.items()})
    summary = {
        "step": step,
        "epoch": epoch,
        "skipped": int(state.guard["skipped"]),
        "selected": selected,
        "data": dataset.description,
        "split": first,
        "tested": len(tests[first][1]),
        "images": {"train": len(dataset.train)} | {split: len(source) for split, source in dataset.evaluations.items()},
        "groups": list(dataset.groups),
        "age_groups": list(dataset.labels.get("age_group", ())),
        "loss": task.loss_name,
        "answers": tests[first][1].describe(),
        "intervals": intervals,
        "task_state": state_to_json(state.task_state),
        "test": results[first],
        "further_tests": {split: {"tested": len(tests[split][1]), "results": results[split]} for split in others},
    }
    replace_json(folder / "summary.json", summary)

    lines += [
        *(coverage_words(name, found) for name, found in intervals.items()),
        _best(experiment, best_step, rows),
        f"Bad steps, left out of the training: {summary['skipped']} of {step}." if summary["skipped"] else "",
        f"Left in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}",
    ]
    return "\n".join(filter(None, lines))


def _worth(task: Task, results: dict) -> str:
    """What one would get without looking at the images."""
    if "baseline" in results:
        return f"the same answer to all images, as the training labels suggest: {task.line(results['baseline'])}"
    rates = {name.removesuffix("majority_rate"): rate for name, rate in results.items() if "majority_rate" in name}
    return "; ".join(
        f"always the most frequent {name.replace('_', ' ').strip() or 'class'}: {100 * rate:.2f} %"
        for name, rate in rates.items()
    )


def _draw_examples(experiment: Experiment, source: Source, predictions: Predictions, title: str, folder: Path) -> None:
    mistakes = predictions.mistakes()
    for name, chosen in _examples(predictions, mistakes).items():
        if not len(chosen):
            continue
        points = []
        for answer, truth in predictions.judged().values():
            if isinstance(answer, Points):
                points += [(truth[chosen], VALIDATION), (answer.values[chosen], TEST)]
        images = _images(experiment, source, predictions.facts["number"][chosen])
        words = [predictions.words(row) for row in chosen]
        colors = "; points: blue is true, red was answered" if points else ""
        heading = f"{title}\n{name.replace('_', ' ')}{colors}"
        save_examples(images, words, mistakes[chosen], points, heading, folder / f"{name}.png")


def _recalls(results: dict) -> list[str]:
    """A line for each class that has images; of many classes, for those with the lowest recall."""
    lines = []
    for key, recall in results.items():
        if not key.endswith("recall") or not isinstance(recall, dict):
            continue
        found = [(name, share) for name, share in recall.items() if share is not None]
        if len(found) > SHOWN_CLASSES:
            lines.append(f"The {SHOWN_CLASSES} classes of {len(found)} with the lowest recall:")
            found = sorted(found, key=itemgetter(1))[:SHOWN_CLASSES]
        lines += [f"  {name:>10}  recall {100 * share:6.2f} %" for name, share in found]
    return lines


def _by_group(predictions: Predictions, group: str) -> list[str]:
    """A line for each value of a text column, with the mean scores of the answers."""
    lines, scores = [], predictions.scores()
    for value, chosen in predictions.groups(group).items():
        known = {name: values[chosen & ~np.isnan(values)] for name, values in scores.items()}
        means = (
            f"{metric(name).label} {metric(name).text(values.mean())}" for name, values in known.items() if len(values)
        )
        lines.append(f"  {group} {value}: {', '.join(means)}   ({chosen.sum()} images)")
    return lines


def _best(experiment: Experiment, step: int | None, rows: list[dict]) -> str:
    """Which epoch was, or could have been, chosen; nothing where none was tested on."""
    task, dataset = experiment.task, experiment.dataset
    if step is None:
        return ""
    epoch = experiment.epoch(step)
    if dataset.validation:
        images = sum(map(len, dataset.validation.values()))
        return f"Best epoch on the {images} images for validation: {epoch}."
    words = [task.line(row) for row in rows if (row["split"], row["step"]) == (next(iter(dataset.tests)), step)]
    return f"Best epoch: {epoch}, {' '.join(words)}. It was picked by the test images: too good to report."


def _examples(predictions: Predictions, mistakes: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of the predictions to look at, by name of the picture."""
    answer, truth = next(iter(predictions.judged().values()), (None, None))
    severity = np.zeros(len(predictions)) if answer is None else answer.severity(truth)
    order = np.argsort(-severity, kind="stable")
    right = order[~mistakes[order]]
    middle = max(0, (len(right) - EXAMPLES) // 2)
    return {
        "examples": np.random.default_rng(0).permutation(len(mistakes))[:EXAMPLES],
        "surest_mistakes": order[mistakes[order]][:EXAMPLES],
        "typical_hits": right[middle : middle + EXAMPLES],
    }


def _images(experiment: Experiment, source: Source, numbers: np.ndarray) -> np.ndarray:
    """The images of these numbers as the network sees them, in the first of their views: uint8 [N, H, W, 3]."""
    records = [source[int(number)] for number in numbers]
    views = np.concatenate([batch["image"][:, 0] for batch in experiment.test_batches(records, all_rows=True)])
    return views[: len(records)]
