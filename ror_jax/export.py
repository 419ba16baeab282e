"""Makes a model to hand over, from a run that has ended: a folder that stands alone.

python -m ror_jax.export --workdir=runs/quickstart --output=models/quickstart --licence="drawn by the program, free"
python -m ror_jax.predict --model=models/quickstart PHOTOGRAPH_OR_FOLDER ...
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's own chatter

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image
from tqdm import tqdm

from input_pipeline import Dataset
from input_pipeline.alignment import symmetric
from input_pipeline.detection import DETECTOR, create_detector, list_detectors, main_face
from input_pipeline.errors import InputError
from input_pipeline.geometry import apply
from input_pipeline.pipeline import record_image
from input_pipeline.process import prepare_process
from input_pipeline.records import Source
from input_pipeline.transforms import Crop, center_crop
from ror_jax.config import default_config, given
from ror_jax.errors import UserError
from ror_jax.extensions import IMPORTED, add_import_option, check_registered
from ror_jax.files import read_json, replacing
from ror_jax.models import load_model
from ror_jax.models.export import open_onnx, to_onnx
from ror_jax.models.network import Network
from ror_jax.models.weights import load_weights, save_tensors
from ror_jax.predict.faces import Preprocessing
from ror_jax.predict.model import VIEWS, Model, check_output, clear_output, save_model_card
from ror_jax.report.model_card import write_model_card
from ror_jax.report.page import Section, Table
from ror_jax.report.robustness import robustness
from ror_jax.runs.checks import resize
from ror_jax.runs.experiment import create_experiment, open_task
from ror_jax.saved_settings import read_settings
from ror_jax.startup import check_devices
from ror_jax.tasks import Task
from ror_jax.training.checkpoint import Checkpoints
from ror_jax.training.evaluation import measure

ROBUSTNESS_SAMPLE = 400  # images that are changed; more take longer than half a minute at 96 pixels on two cores
SAMPLE = 300  # training images in which faces are looked for
ENOUGH = 20  # faces in them to say where they lie
DETECTION_SIDE = 256  # pixels; in smaller images less is found
TOLERANCE = 1e-4  # the largest difference between two programs, as a part of the largest output, or of 1
PLATFORMS = ("cpu", "cuda", "tpu")
DTYPES = ("float32", "float16")  # of the file; networks compute in float32, or as their settings say


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ror_jax.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True, metavar="RUN", help="folder of a run that has ended")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--licence",
        required=True,
        metavar="TEXT",
        help="of the images that it was trained on, and what that allows: for the card, which does not guess",
    )
    parser.add_argument(
        "--attribution", default="", metavar="TEXT", help="whom to name where the model is used: for the card"
    )
    parser.add_argument("--data_dir", help="where the data of the run are now, if they were moved")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="of the weights; float16 halves their file, and the run's tests are repeated with the rounded weights",
    )
    parser.add_argument("--onnx", action="store_true", help="also write model.onnx, checked in ONNX Runtime")
    parser.add_argument(
        "--stablehlo", action="store_true", help="also write model.stablehlo, for jax.export.deserialize"
    )
    add_import_option(parser)
    options = vars(parser.parse_args(arguments))
    prepare_process()
    try:
        check_devices()
        export(**options)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")


def export(
    workdir: Path | str,
    output: Path | str,
    *,
    licence: str,
    attribution: str = "",
    data_dir: str | None = None,
    dtype: str = "float32",
    onnx: bool = False,
    stablehlo: bool = False,
) -> None:
    """Writes the folder `output`; see `main` for the arguments."""
    workdir, output = Path(workdir), Path(output)
    if not (workdir / "summary.json").exists():
        raise UserError(f"{workdir} holds no run that has ended: it has no summary.json; train and test one first")
    licence, attribution = " ".join(licence.split()), " ".join(attribution.split())
    if not licence:
        raise UserError("--licence is empty; say 'unknown' where it is")
    check_output(output)
    weights, run_card = load_weights(workdir)
    weights = _rounded(weights, dtype)
    config = run_config(workdir, data_dir)
    check_registered(workdir, config.model.name, config.task.name, config.dataset.name)
    dataset, task = open_task(config)
    saved = Checkpoints(workdir / "checkpoints", data=dataset.fingerprint)
    if saved.steps and saved.is_of_other_data(saved.latest):
        raise UserError(
            f"the data are not those of the run in {workdir}: images or labels have changed. Put the old ones back, or"
            " say with --data_dir where they are"
        )
    preprocessing = Preprocessing(
        size=config.image_size,
        resize=resize(config),
        fit=config.fit,
        fill=run_card["mean"],
        visible=_visible(dataset.train, config.fit),
        landmarks={},
        landmarks_from={},
    )
    mirrored = config.flip > 0 and config.augmentation != "none"
    if dataset.template is None:
        preprocessing = _with_landmarks(preprocessing, dataset.train, mirrored=mirrored)
    else:
        preprocessing = _with_template(preprocessing, dataset.train, dataset.template)
    summary = read_json(workdir / "summary.json")
    if missing := {"answers", "intervals"} - summary.keys():
        raise UserError(f"{workdir / 'summary.json'} has no {' and no '.join(sorted(missing))}; test the run again")
    card = run_card | {
        "name": config.name,
        "task": given(config.task),
        "labels": {name: dataset.labels[name] for name in task.labels},
        "preprocessing": dataclasses.asdict(preprocessing),
        "views": config.views if config.views in VIEWS else "single",
        "answers": summary["answers"],
        "intervals": summary["intervals"],
        "licence": licence,
        "attribution": attribution,
    }
    programs = {"model.onnx": _write_onnx} if onnx else {}
    programs |= {"model.stablehlo": _write_stablehlo} if stablehlo else {}
    clear_output(output)
    save_tensors(output, weights)
    save_model_card(output, card)
    network = load_model(output)
    images = [_as_tested(dataset.test, number, preprocessing).pixels for number in range(min(16, len(dataset.test)))]
    for name, write in programs.items():
        with replacing(output / name) as unfinished:
            _check(write(network, unfinished, config.image_size), network, images, name)
    rounding = []
    if dtype != "float32":
        largest = _difference(network, load_model(workdir), images)
        rounding = [Section("What rounding changes", _rounding(output, config, summary, largest, dtype))]
    found = _robustness(output, dataset, task, preprocessing)
    write_model_card(workdir, output, card, dataset.description, *found, before_results=rounding)
    print(f"Wrote {output}: {', '.join(sorted(path.name for path in output.iterdir()))}.")
    own = "".join(f"--import={file} " for file in IMPORTED)
    print(f"python -m ror_jax.predict {own}--model={output} PHOTOGRAPH_OR_FOLDER ...   reads faces with it.")


def run_config(workdir: Path, data_dir: str | None) -> ConfigDict:
    """The settings of a run; one that is newer than the run had its default then."""
    path = workdir / "config.json"
    config, settings = default_config().unlock(), read_settings(path)
    config.dataset.mixture = read_json(path)["dataset"].get("mixture", {})  # whose names no default has
    config.update_from_flattened_dict({name: settings[name] for name in settings if not name.startswith("stage.")})
    config.data_dir = data_dir or config.data_dir
    return config


def _as_tested(source: Source, number: int, preprocessing: Preprocessing, side: int | None = None) -> Crop:
    """An image of a data set as the network is tested on it; or enlarged to about that side."""
    seen = preprocessing
    zoom = -(-side // seen.size) if side else 1
    image = record_image(source[number])
    return center_crop(image, seen.size * zoom, seen.resize * zoom, seen.fit, seen.fill)


def _sample(train: Source) -> list[int]:
    return np.random.default_rng(0).permutation(len(train))[:SAMPLE].tolist()


def _visible(train: Source, fit: str) -> list[float]:
    """The shares of width and height of a training image that are no border: medians over a sample."""
    if fit == "crop":
        return [1.0, 1.0]
    sizes = np.array([Image.fromarray(np.asarray(record_image(train[number]))).size for number in _sample(train)])
    return np.median(sizes / sizes.max(1, keepdims=True), 0).round(4).tolist()


def _with_template(preprocessing: Preprocessing, train: Source, template: np.ndarray) -> Preprocessing:
    """Says where landmarks lie in faces that were aligned with the template, in what the network sees of the image."""
    side, *_ = np.asarray(record_image(train[0])).shape
    seen = apply(_as_tested(train, 0, preprocessing).shares, template * side)
    return dataclasses.replace(preprocessing, landmarks={DETECTOR: seen.round(4).tolist()})


def _with_landmarks(preprocessing: Preprocessing, train: Source, mirrored: bool) -> Preprocessing:
    """Says where landmarks lie in the faces that the network was trained on: there they shall lie in photographs.

    It is the median over a sample of the training images, from the same detectors that find faces later. Of images that
    were also `mirrored` in training, the mean with the mirror image is taken.
    """
    detectors = {name: create_detector(name) for name in list_detectors()}
    found = {name: [] for name in detectors}
    numbers = _sample(train)
    for number in tqdm(numbers, desc="looking where faces lie", unit=" images", mininterval=1, disable=None):
        image = Image.fromarray(_as_tested(train, number, preprocessing, DETECTION_SIDE).pixels)
        for name, detect in detectors.items():
            if faces := detect(image):
                found[name].append(main_face(faces, image.size).landmarks / image.width)
    enough = {name: np.median(places, 0) for name, places in found.items() if len(places) >= ENOUGH}
    if not enough:
        print(
            f"In {len(numbers)} training images no detector found {ENOUGH} faces, too few to say how they are cut;"
            " faces of photographs will be cut with the usual margin, which may not fit."
        )
    return dataclasses.replace(
        preprocessing,
        landmarks={
            name: (symmetric(places) if mirrored else places).round(4).tolist() for name, places in enough.items()
        },
        landmarks_from={name: len(found[name]) for name in enough},
    )


def _robustness(folder: Path, dataset: Dataset, task: Task, preprocessing: Preprocessing) -> tuple[dict, str]:
    """What `robustness` finds of the model in `folder`, and on which images: for validation, or else of the test."""
    splits = dataset.validation or dataset.tests
    places = [(source, number) for source in splits.values() for number in range(len(source))]
    chosen = [places[at] for at in np.random.default_rng(0).permutation(len(places))[:ROBUSTNESS_SAMPLE]]
    found = robustness(
        Model(folder).read_pixels,
        task.truth,
        [source[number] for source, number in chosen],
        [_as_tested(source, number, preprocessing) for source, number in chosen],
        geometry=dataset.geometry,
        fill=preprocessing.fill,
    )
    return found, f"{len(chosen)} images of {' and '.join(splits)}"


def _write_onnx(network: Network, path: Path, size: int) -> Callable:
    """Returns the file as a function."""
    to_onnx(network, path, size)
    return open_onnx(path)


def _write_stablehlo(network: Network, path: Path, size: int) -> Callable:
    """The network: images, uint8 [B, size, size, 3], to outputs by name. Returns the file as a function."""
    graph, state = nnx.split(network)

    @jax.jit
    def run(images):
        outputs = nnx.merge(graph, state)(images)
        return {name: outputs[name] for name in network.heads}

    batch = jax.ShapeDtypeStruct(jax.export.symbolic_shape(f"b, {size}, {size}, 3"), jnp.uint8)
    path.write_bytes(jax.export.export(run, platforms=PLATFORMS)(batch).serialize())
    return jax.export.deserialize(bytearray(path.read_bytes())).call


def _rounded(tensors: dict[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    """Returns the tensors in that dtype; raises UserError where it cannot hold a number."""
    with np.errstate(over="ignore"):
        rounded = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    if lost := [name for name, tensor in rounded.items() if not np.isfinite(tensor).all()]:
        raise UserError(f"--dtype={dtype} cannot hold numbers in {lost[0]}, they are too large; export without it")
    return rounded


def _rounding(output: Path, config: ConfigDict, summary: dict, largest: float, dtype: str) -> list[str | Table]:
    """For the model's card: by how much outputs change at most, and the run's tests again, with the rounded weights."""
    config.init_from, config.epochs, config.stages, config.mesh = str(output.absolute()), 0, (), default_config().mesh
    experiment = create_experiment(config, devices=jax.devices()[:1])
    further = {split: test["results"] for split, test in summary["further_tests"].items()}
    rows = []
    for split, results in ({summary["split"]: summary["test"]} | further).items():
        source = experiment.dataset.tests[split]
        print(f"Testing the rounded weights on {len(source)} images of {split}.", flush=True)
        again = experiment.task.summarize(measure(experiment, experiment.state, source))
        rows.append((split, experiment.task.line(results), experiment.task.line(again)))
    change = (
        f"Rounded to {dtype}, the weights change an output by {largest:.1e} of the largest one at most, in a few random"
        " and test images."
    )
    print(change, *(f"{split}: {before}; with rounded weights {after}." for split, before, after in rows), sep="\n")
    return [
        f"{change} Results and intervals on this page were measured before that. The same tests with both:",
        Table(("test", "before", "rounded"), rows, "lll"),
    ]


def _difference(program: Callable, network: Network, images: list[np.ndarray]) -> float:
    """The largest difference of an output, as a part of the largest one, or of 1, on random and on real images."""
    random, largest = np.random.default_rng(0).integers(0, 256, (5, *images[0].shape), np.uint8), 0.0
    for batch in (random, np.stack(images)):
        outputs, expected = program(batch), network(batch)
        for head in outputs.keys() & {*network.heads}:
            wanted = np.asarray(expected[head])
            largest = max(largest, float(np.abs(outputs[head] - wanted).max() / max(1.0, np.abs(wanted).max())))
    return largest


def _check(program: Callable, network: Network, images: list[np.ndarray], name: str) -> None:
    """Says how far the program is from the network; raises UserError where that is too far."""
    largest = _difference(program, network, images)
    if largest > TOLERANCE:
        raise UserError(
            f"{name} differs from the network by {largest:.1e} of the largest output; more than {TOLERANCE}"
        )
    print(f"{name} answers as the network does, to {largest:.1e}, on 5 random and {len(images)} test images.")


if __name__ == "__main__":
    main()
