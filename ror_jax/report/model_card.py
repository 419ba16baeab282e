"""The card of a model that is handed over: what it is, what it has seen, for whom it works, what it cannot tell."""

from pathlib import Path

import numpy as np

from input_pipeline.datasets.faces import LISTED
from input_pipeline.detection import DETECTOR
from ror_jax.errors import UserError
from ror_jax.files import read_json, replace_text
from ror_jax.report.folds import INTERVALS, by_test, result_parts
from ror_jax.report.intervals import coverage_words
from ror_jax.report.page import Section, to_markdown
from ror_jax.report.runs import read_run

LIMITS = (
    "It sees a photograph, not a person: *apparent* age, and gender as two words of its data set, with that data set's"
    " mistakes and gaps.",
    "It was tested on images like those that it was trained on. On other cameras, poses, lights, ages and peoples it"
    " may be much worse; test it on yours, group by group, before you rely on it.",
    "How sure it says it is holds for its test images at best.",
    "It must not decide about people.",
)


def write_model_card(workdir: Path, output: Path, card: dict, description: str) -> None:
    """Writes `README.md` and its pictures into `output`.

    Args:
      workdir: of the run that was exported.
      card: `model.json` of the exported model.
      description: of the data, see `Dataset`.

    Raises:
      UserError: the predictions of the run cannot be read.
    """
    try:
        tests = by_test([read_run(workdir)])
        results = {
            split: result_parts(runs, str(output / ("results" if split == "test" else f"results_{split}")))
            for split, runs in tests.items()
        }
    except (KeyError, ValueError) as error:
        raise UserError(f"the results of {workdir} cannot be read: {error}") from error
    summary = read_json(workdir / "summary.json")
    target = " and ".join(summary["answers"]).replace("_", " ")
    counts = ", ".join(f"{number} {split}" for split, number in summary["images"].items())
    sections = [
        Section(
            card["name"],
            [
                f"Reads {target} from faces. Network: {card['model']}; outputs: {', '.join(card['heads'])}. Made with"
                f" ror-jax {card['versions']['ror_jax']}.",
                "```sh\npython -m ror_jax.predict --model=FOLDER PHOTOGRAPH_OR_FOLDER ...\n```",
            ],
        ),
        Section(
            "What it was trained on",
            [
                tuple(line.strip() for line in description.splitlines() if LISTED not in line),
                f"Images: {counts}. {summary['epoch']:g} epochs; what is here is the {summary['selected']}.",
                f"**Licence of the images**, as told by who exported it: {card['licence']}",
                *(
                    [f"**Its first weights** came from {card['init_from'].get('source', 'another run')}."]
                    if card["init_from"]
                    else []
                ),
            ],
        ),
        Section("How it sees a face", [_crop(card), *_intervals(card)]),
        *(
            Section(f"Results on {'its test images' if split == 'test' else split}", [_views(card), INTERVALS, *parts])
            for split, parts in results.items()
        ),
        Section("What it can tell, and what not", [LIMITS]),
    ]
    replace_text(output / "README.md", to_markdown(sections, output))


def _views(card: dict) -> str:
    both = "Each face and its mirror image were read; what is told is of the mean, and so is what the model answers."
    return both if card["views"] == "flip" else "Each face was read once."


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


def _intervals(card: dict) -> list[str]:
    lines = []
    for name, found in card["intervals"].items():
        below, above, unit = found["below"], found["above"], _unit(card["answers"][name])
        if found.get("own"):
            moved = f"its lower end moved by {-below:+.3g} {unit} and its upper one by {above:+.3g}"
            reach = f"is the network's own for each face, {moved}"
        else:
            reach = f"goes from {below:.3g} {unit} below the answer to {above:.3g} above it"
        lines.append(f"The interval of the {name.replace('_', ' ')} {reach}. {coverage_words(name, found)}")
    return lines


def _unit(description: dict) -> str:
    return "classes" if description["kind"] == "class" else description["unit"]
