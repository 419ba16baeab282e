"""What a run says when it is done: the result in words, in JSON and in pictures."""

import json
from pathlib import Path

import jax
import numpy as np

from ror_jax.report.figures import save_confusion, save_curves, save_examples
from ror_jax.training.experiment import Experiment
from ror_jax.training.mesh import shard_batch
from ror_jax.training.state import TrainState, empty_metrics

EXAMPLES = 24
SHOWN_CLASSES = 10


def summarize(experiment: Experiment, state: TrainState, results: dict, rows: list[dict], folder: Path) -> str:
    """Writes `summary.json`, `curves.png`, `confusion.png` and `examples.png` to `folder`; returns the words.

    `results` are those of `evaluate` for `state`, `rows` those of the run's `metrics.jsonl`.
    """
    task = experiment.task
    step = int(state.step)
    epoch = step / experiment.steps_per_epoch
    summary = {
        "step": step,
        "epoch": epoch,
        "data": experiment.dataset.description,
        "images": {"train": len(experiment.dataset.train), "test": len(experiment.dataset.test)},
        "classes": task.names,
        "test": results,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")

    majority = f"always the most frequent class: {100 * results['majority_rate']:.2f} %"
    title = f"{task.target.replace('_', ' ')}: {task.line(results)} ({majority})"
    if rows:
        metrics = [name for name in (task.primary, "one_off", "cross_entropy") if name in results]
        save_curves(rows, metrics, folder / "curves.png")
    save_confusion(results["confusion"], task.names, title, folder / "confusion.png")
    _save_examples(experiment, state, title, folder / "examples.png")

    lines = [
        f"Test after epoch {epoch:g}: {task.line(results)}   ({results['images']} images; {majority})",
        *_recalls(results["recall"]),
    ]
    tests = [row for row in rows if row["split"] == "test" and row["step"] % experiment.steps_per_epoch == 0]
    scores = {row["epoch"]: row[task.primary] for row in tests}
    if scores:
        best = max(scores, key=lambda epoch: (scores[epoch], epoch))  # the last of equals, as the checkpoints keep it
        lines.append(
            f"Best epoch: {best} with {100 * scores[best]:.2f} %. It was picked by the test images: too good to report."
        )
    lines.append(f"Left in {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    return "\n".join(lines)


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


def _save_examples(experiment: Experiment, state: TrainState, title: str, path: Path) -> None:
    """A random few of the test images with the labels that they have and got."""
    task, test = experiment.task, experiment.dataset.test
    chosen = np.random.default_rng(0).choice(len(test), min(EXAMPLES, len(test)), replace=False)
    images, true, guessed = [], [], []
    for batch in experiment.test_batches([test[int(index)] for index in chosen]):
        sharded = shard_batch(batch, experiment.mesh)
        _, predictions = experiment.eval_step(state, sharded, empty_metrics(task, experiment.mesh))
        guesses = jax.device_get(predictions[task.target]["class"])
        for image, label, guess, mask in zip(batch["image"], batch[task.target], guesses, batch["mask"], strict=True):
            if mask and label >= 0:
                images.append(image[0])
                true.append(task.names[label])
                guessed.append(task.names[guess])
    save_examples(np.stack(images), true, guessed, title, path)
