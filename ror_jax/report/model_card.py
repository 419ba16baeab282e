"""The card of a model that is handed over: what it is, whom it reads worst, what it must not be used for."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from input_pipeline.datasets.faces import LISTED
from input_pipeline.detection import DETECTOR
from ror_jax import __version__
from ror_jax.errors import UserError
from ror_jax.files import read_json, replace_text
from ror_jax.report.folds import INTERVALS, by_test, read_tested, result_parts
from ror_jax.report.groups import ENOUGH, Groups, extremes, people, unit_label
from ror_jax.report.intervals import coverage_words
from ror_jax.report.page import Section, to_markdown
from ror_jax.report.predictions import Predictions
from ror_jax.report.robustness import most_harmful, robustness_table
from ror_jax.report.runs import Run, read_run

FORBIDDEN = (
    "To decide about a person, or to prepare such a decision: on work, credit, insurance, access, police or border"
    " checks. It is no proof of an age.",
    "To tell who someone is or how someone identifies. It sees a photograph, not a person: *apparent* age, and gender"
    " as one of the words of its data set.",
    "To watch people who do not know it or did not agree.",
)
FAILURES = (
    "It answers for whatever it is given, also for what is no face, for drawings, and for faces that are turned away or"
    " covered; it may then be wrong with high confidence.",
    "It learned the mistakes and the gaps of its training data, and it was tested on images like those. On other"
    " cameras, poses, lights, ages and peoples it may be much worse: test it on your images, group by group, before you"
    " rely on it.",
    "Confidences and intervals were measured on its test images. They hold on average over such images, not for each"
    " group, and not for other images.",
)
CHANGED = (
    "Faces are turned and scaled about the centre of what the network sees, and sigma is in pixels of that; what then"
    " lies outside the image has the mean colour of the training images. As all rows are of the same images, a"
    " difference between two rows is surer than their intervals suggest."
)
MEASURES = (
    "MAE is the mean absolute error; where only a span of years is known, that against its middle (an open one ends at"
    " 100). Exact: the right class. 1-off: the right class or a neighbouring one.",
    "Expected calibration error: the mean difference between confidence and the share of right answers, in ten bins of"
    " confidence (Guo et al., 2017).",
    *INTERVALS,
)


def write_model_card(
    workdir: Path,
    output: Path,
    card: dict,
    description: str,
    robustness: Mapping[str, Mapping[str, np.ndarray]],
    measured_on: str,
    before_results: Sequence[Section] = (),
) -> None:
    """Writes `README.md` and its pictures into `output`.

    Args:
      workdir: of the run that was exported.
      card: `model.json` of the exported model.
      description: of the data, see `Dataset`.
      robustness: what `robustness` found.
      measured_on: on which images, such as "500 images of validation".
      before_results: further sections.

    Raises:
      UserError: the predictions of the run cannot be read.
    """
    try:
        tests = by_test([read_run(workdir)])
        predictions = {name: read_tested(runs).with_intervals(card["intervals"]) for name, runs in tests.items()}
        results = [_results(card, runs, predictions[split], output) for split, runs in tests.items()]
    except (KeyError, ValueError) as error:
        raise UserError(f"the results of {workdir} cannot be read: {error}") from error
    summary = read_json(workdir / "summary.json")
    *others, last = (name.replace("_", " ") for name in summary["answers"])
    target = f"{', '.join(others)} and {last}" if others else last
    of_first = next((predictions[split], people(predictions[split], runs[0])) for split, runs in tests.items())
    sections = [
        Section(
            card["name"],
            [
                f"Reads {target} from faces. Network: {card['model']}; outputs: {', '.join(card['heads'])}. Made with"
                f" ror-jax {__version__}.",
                *_worst(*of_first),
                "```sh\npython -m ror_jax.predict --model=FOLDER PHOTOGRAPH_OR_FOLDER ...\n```",
            ],
        ),
        Section("What it must not be used for", [FORBIDDEN]),
        Section("Known failures", [(*most_harmful(robustness), *FAILURES)]),
        Section("What it was trained on", _training(card, summary, description)),
        Section("How it sees a face", [_crop(card), *_intervals(card, *of_first)]),
        Section(
            "Robustness",
            [f"Means over {measured_on}, all changed in the same way. {CHANGED}", robustness_table(robustness)],
        ),
        *before_results,
        *results,
    ]
    replace_text(output / "README.md", to_markdown(sections, output))


def _origins(card: dict) -> Iterator[str]:
    """Where the first weights came from, where those of that did, and so on; a licence of images goes with them."""
    while card := card.get("init_from"):
        words = [f"licence of its images: {card['licence']}"] if "licence" in card else []
        words += [f"attribution: {card['attribution']}"] if card.get("attribution") else []
        name = card["name"] if "licence" in card else card.get("source", "another run")
        yield f"{name} ({'; '.join(words)})" if words else name


def _results(card: dict, runs: list[Run], predictions: Predictions, output: Path) -> Section:
    name, stem = "its test images", "results"
    if (split := runs[0].split) != "test":
        name, stem = split, f"results_{split}"
    return Section(f"Results on {name}", [_views(card), MEASURES, *result_parts(runs, predictions, str(output / stem))])


def _worst(predictions: Predictions, groups: Groups) -> list[str | tuple[str, ...]]:
    """Who is read worst and who best: a line for each answer."""
    lines = []
    for name, (answer, truth) in predictions.judged().items():
        score, values = next(iter(answer.scores(truth).items()))
        if ends := _ends(predictions, groups, score, values, ("worst", "best")):
            lines.append(f"**{name.replace('_', ' ').capitalize()}**, {unit_label(score)}: {ends}.")
    if not lines:
        return [f"**Whom it reads worst** is not known: no two groups have {ENOUGH} test images each to compare."]
    words = f"among groups of at least {ENOUGH} test images, with 95 % intervals in parentheses:"
    return [f"**Whom it reads worst and best**, {words}", tuple(lines)]


def _ends(predictions: Predictions, groups: Groups, score: str, values: np.ndarray, words: tuple[str, str]) -> str:
    """The groups with the lowest and the highest mean of a score [N], in words; empty where there are none."""
    found = extremes(predictions.subjects, groups, score, values)
    return "; ".join(
        f"by {by} {', '.join(f'{word} {group} with {mean}' for word, (group, mean) in zip(words, ends, strict=True))}"
        for by, ends in found.items()
    )


def _training(card: dict, summary: dict, description: str) -> list[str | tuple[str, ...]]:
    counts = ", ".join(f"{number} {split}" for split, number in summary["images"].items())
    return [
        tuple(line.strip() for line in description.splitlines() if LISTED not in line),
        f"Images: {counts}. The weights are those of the {summary['selected']}, after {summary['epoch']:g} epochs.",
        f"**Licence of the images**, as told by who exported it: {card['licence']}",
        *([f"**Attribution**: {card['attribution']}"] if card["attribution"] else []),
        *([f"**Its first weights** came from {'; these from '.join(_origins(card))}."] if card["init_from"] else []),
    ]


def _views(card: dict) -> str:
    if card["views"] == "flip":
        return "Each face and its mirror image were read, and the mean of both counts; the model does the same."
    return "Each face was read once."


def _crop(card: dict) -> str:
    preprocessing = card["preprocessing"]
    size = f"{preprocessing['size']} x {preprocessing['size']} pixels."
    if DETECTOR not in preprocessing["landmarks"]:
        return (
            f"{size} A face that was found in a photograph is turned upright and cut out with a usual margin, which may"
            " not fit: in its training images too few faces were detected to say where they lie."
        )
    landmarks = np.array(preprocessing["landmarks"][DETECTOR])
    (left, top), (right, _) = landmarks[:2]
    found = preprocessing["landmarks_from"].get(DETECTOR)
    origin = f"lie in its training images (median of {found})" if found else "were put in its training images"
    return (
        f"{size} A face that was found in a photograph is turned and scaled so that its eyes, nose and mouth lie where"
        f" they {origin}: the eyes {left:.2f} and {right:.2f} of the side from the left and {top:.2f} from above, the"
        f" mouth {landmarks[3:, 1].mean():.2f} from above."
    )


def _intervals(card: dict, predictions: Predictions, groups: Groups) -> list[str]:
    """What the intervals are, and which share of the truth of which group lies in them."""
    lines = []
    for name, found in card["intervals"].items():
        below, above, unit = found["below"], found["above"], _unit(card["answers"][name])
        if found.get("own"):
            reach = f"is the network's own for each face, its lower end moved by {_short(-below)} {unit} and its upper"
            reach += f" one by {_short(above)}; the table of results tells what it holds without that"
        else:
            reach = f"goes from {below:.3g} {unit} below the answer to {above:.3g} above it"
        lines.append(f"The 90 % interval of the {name.replace('_', ' ')} {reach}. {coverage_words(name, found)}")
        inside = predictions.answers[name].scores(predictions.truth[name])["coverage"]
        if ends := _ends(predictions, groups, "coverage", inside, ("least", "most")):
            lines.append(f"Groups differ in that share, in percent: {ends}.")
    return lines


def _short(number: float) -> str:
    return f"{round(number, 1) + 0.0:+.3g}"  # + 0.0: of -0.0 makes 0.0


def _unit(description: dict) -> str:
    return "classes" if description["kind"] == "class" else description["unit"]
