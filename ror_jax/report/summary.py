"""What a run says when it is done: the result in words, in JSON and in pictures."""

from operator import itemgetter
from pathlib import Path

import numpy as np

from ror_jax.files import replace_json
from ror_jax.report.baseline import baseline
from ror_jax.report.figures import TEST, VALIDATION, draw_answers, save_curves, save_examples
from ror_jax.report.predictions import Predictions, write_predictions, write_submission
from ror_jax.tasks.answers import Points
from ror_jax.tasks.task import state_to_json
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

    `results` are those of the test of `state`, which was `selected` as these words say; `rows` are those of the run's
    `metrics.jsonl`.
    """
    task, dataset, step = experiment.task, experiment.dataset, int(state.step)
    epoch = step / experiment.steps_per_epoch
    write_predictions(predictions, dataset.test, folder)
    write_submission(predictions, dataset.test, folder)

    if blind := baseline(task, dataset.train, dataset.test):
        results = results | {"baseline": blind}
        worth = f"the same answer to all images, as the training labels suggest: {task.line(blind)}"
    else:
        rates = {name.removesuffix("majority_rate"): rate for name, rate in results.items() if "majority_rate" in name}
        worth = "; ".join(
            f"always the most frequent {name.replace('_', ' ').strip() or 'class'}: {100 * rate:.2f} %"
            for name, rate in rates.items()
        )
    title = f"{task.line(results)}\n{worth and f'({worth})'}".replace("_", " ")
    if rows:
        save_curves(rows, [name for name in task.plotted if name in results], folder / "curves.png")
    draw_answers(predictions.judged(), f"{folder}/", title)
    _draw_examples(experiment, predictions, title, folder)

    summary = {
        "step": step,
        "epoch": epoch,
        "skipped": int(state.guard["skipped"]),
        "selected": selected,
        "data": dataset.description,
        "tested": len(predictions),
        "images": {"train": len(dataset.train)} | {split: len(source) for split, source in dataset.evaluations.items()},
        "loss": task.loss_name,
        "answers": predictions.describe(),
        "task_state": state_to_json(state.task_state),
        "test": results,
    }
    replace_json(folder / "summary.json", summary)

    lines = [
        f"Test after epoch {epoch:g}: {task.line(results)}   ({len(predictions)} images{worth and f'; {worth}'})",
        *_recalls(results),
        _best(experiment, rows),
        f"Bad steps, left out of the training: {summary['skipped']} of {step}." if summary["skipped"] else "",
        f"Left in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}",
    ]
    return "\n".join(filter(None, lines))


def _draw_examples(experiment: Experiment, predictions: Predictions, title: str, folder: Path) -> None:
    mistakes = predictions.mistakes()
    for name, chosen in _examples(predictions, mistakes).items():
        if not len(chosen):
            continue
        points = []
        for answer, truth in predictions.judged().values():
            if isinstance(answer, Points):
                points += [(truth[chosen], VALIDATION), (answer.values[chosen], TEST)]
        images = _images(experiment, predictions.facts["number"][chosen])
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


def _best(experiment: Experiment, rows: list[dict]) -> str:
    """Which epoch was, or could have been, chosen; nothing where none was tested on."""
    task, dataset = experiment.task, experiment.dataset
    split = next(iter(dataset.evaluations))
    ends = [row for row in rows if row["split"] == split and row["step"] % experiment.steps_per_epoch == 0]
    if not ends:
        return ""
    best = max(ends, key=lambda row: (task.score(row), row["step"]))  # the last of equals, as the checkpoints keep it
    if split == "validation":
        return f"Best epoch on the {len(dataset.validation[split])} images for validation: {best['epoch']}."
    return f"Best epoch: {best['epoch']}, {task.line(best)}. It was picked by the test images: too good to report."


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


def _images(experiment: Experiment, numbers: np.ndarray) -> np.ndarray:
    """The test images of these numbers as the network sees them, in the first of their views: uint8 [N, H, W, 3]."""
    records = [experiment.dataset.test[int(number)] for number in numbers]
    views = np.concatenate([batch["image"][:, 0] for batch in experiment.test_batches(records, all_rows=True)])
    return views[: len(records)]
