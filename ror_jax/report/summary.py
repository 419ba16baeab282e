"""What a run says when it is done: the result in words, in JSON and in pictures."""

from pathlib import Path

import numpy as np

from ror_jax.evaluation.baseline import baseline
from ror_jax.evaluation.predictions import Predictions, write_predictions, write_submission
from ror_jax.files import replace_json
from ror_jax.report.figures import save_confusion, save_curves, save_examples
from ror_jax.training.experiment import Experiment
from ror_jax.training.state import TrainState

EXAMPLES = 24
SHOWN_CLASSES = 10


def summarize(
    experiment: Experiment,
    state: TrainState,
    selected: str,
    results: dict,
    predictions: Predictions,
    rows: list[dict],
    folder: Path,
) -> str:
    """Writes `predictions.csv`, pictures and, last of all, `summary.json` to `folder`; returns the words.

    `results` are those of `evaluate` for `state`, which was `selected` as these words say; `rows` are those of the
    run's `metrics.jsonl`.
    """
    task, dataset, step = experiment.task, experiment.dataset, int(state.step)
    epoch = step / experiment.steps_per_epoch
    write_predictions(predictions, dataset.test, folder)
    if predictions.predicted_age is not None:
        write_submission(predictions, dataset.test, folder)

    majority = f"always the most frequent class: {100 * results['majority_rate']:.2f} %"
    if blind := baseline(task, dataset.train, dataset.test):
        results = results | {"baseline": blind}
        majority = f"the same answer to all images, as the training labels suggest: {task.line(blind)}"
    title = f"{' and '.join(task.targets()).replace('_', ' ')}: {task.line(results)}\n({majority})"
    if rows:
        save_curves(rows, [name for name in task.plotted if name in results], folder / "curves.png")
    save_confusion(results["confusion"], task.names, title, folder / "confusion.png")
    for name, chosen in _examples(predictions).items():
        if len(chosen):
            images = _images(experiment, predictions.facts["number"][chosen])
            words = [_words(predictions, row, task.names) for row in chosen]
            mistakes = predictions.mistakes[chosen]
            save_examples(images, words, mistakes, f"{title}\n{name.replace('_', ' ')}", folder / f"{name}.png")

    summary = {
        "step": step,
        "epoch": epoch,
        "skipped": int(state.guard["skipped"]),
        "selected": selected,
        "data": dataset.description,
        "images": {"train": len(dataset.train)} | {split: len(source) for split, source in dataset.tested.items()},
        "classes": task.names,
        "task_state": {name: float(value) for name, value in state.task_state.items()},
        "test": results,
    }
    replace_json(folder / "summary.json", summary)

    lines = [
        f"Test after epoch {epoch:g}: {task.line(results)}   ({len(predictions.true)} images; {majority})",
        *_recalls(results["recall"]),
        _best(experiment, rows),
        f"Bad steps, left out of the training: {summary['skipped']} of {step}." if summary["skipped"] else "",
        f"Left in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}",
    ]
    return "\n".join(filter(None, lines))


def _words(predictions: Predictions, row: int, names: tuple[str, ...]) -> str:
    """What was answered to an image and, where that is not the same, what is true."""
    answer, label = names[predictions.predicted[row]], predictions.true[row]
    true = names[label] if label >= 0 else "?"
    if predictions.predicted_age is None:
        return f"{answer}\nis {true}" if predictions.mistakes[row] else answer
    age = predictions.number("age")[row]
    return f"{answer} {predictions.predicted_age[row]:.0f}\nis {true} {'?' if age < 0 else f'{age:.0f}'}"


def _recalls(recall: dict[str, float | None]) -> list[str]:
    """A line for each class that has images; of many classes, for those with the lowest recall."""
    found = {name: share for name, share in recall.items() if share is not None}
    lines = [f"  {name:>10}  recall {100 * share:6.2f} %" for name, share in found.items()]
    if len(lines) <= SHOWN_CLASSES:
        return lines
    worst = sorted(range(len(lines)), key=list(found.values()).__getitem__)[:SHOWN_CLASSES]
    return [
        f"The {SHOWN_CLASSES} classes of {len(lines)} with the lowest recall:",
        *(lines[number] for number in worst),
    ]


def _best(experiment: Experiment, rows: list[dict]) -> str:
    """Which epoch was, or could have been, chosen; nothing where none was tested on."""
    task, dataset = experiment.task, experiment.dataset
    split = next(iter(dataset.tested))
    ends = [row for row in rows if row["split"] == split and row["step"] % experiment.steps_per_epoch == 0]
    if not ends:
        return ""
    best = max(ends, key=lambda row: (task.score(row), row["step"]))  # the last of equals, as the checkpoints keep it
    if split == "validation":
        return f"Best epoch on the {len(dataset.validation)} images for validation: {best['epoch']}."
    return f"Best epoch: {best['epoch']}, {task.line(best)}. It was picked by the test images: too good to report."


def _examples(predictions: Predictions) -> dict[str, np.ndarray]:
    """Rows of the predictions to look at, by name of the picture."""
    wrong = predictions.mistakes
    by_confidence = np.argsort(-predictions.confidence, kind="stable")
    right = by_confidence[~wrong[by_confidence]]
    middle = max(0, (len(right) - EXAMPLES) // 2)
    everything = np.random.default_rng(0).permutation(len(wrong))
    return {
        "examples": everything[:EXAMPLES],
        "surest_mistakes": by_confidence[wrong[by_confidence]][:EXAMPLES],
        "typical_hits": right[middle : middle + EXAMPLES],
    }


def _images(experiment: Experiment, numbers: np.ndarray) -> np.ndarray:
    """The test images of these numbers as the network sees them, in the first of their views: uint8 [N, H, W, 3]."""
    records = [experiment.dataset.test[int(number)] for number in numbers]
    views = np.concatenate([batch["image"][:, 0] for batch in experiment.test_batches(records, all_rows=True)])
    return views[: len(records)]
