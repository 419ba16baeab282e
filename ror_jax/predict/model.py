"""An exported model: faces in, answers out."""

import io
import os
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from input_pipeline.detection import DETECTOR, Detector
from input_pipeline.transforms import Crop
from ror_jax import __version__
from ror_jax.errors import UserError, unknown
from ror_jax.extensions import check_registered
from ror_jax.files import read_json, writing
from ror_jax.models import load_model
from ror_jax.models.export import has_onnx, open_onnx, to_onnx
from ror_jax.models.network import Network
from ror_jax.models.weights import CARD, TENSORS, checksum, save_card
from ror_jax.models.zoo import model_folder
from ror_jax.outputs import from_json
from ror_jax.predict.faces import FaceFilter, FaceFinder, Preprocessing, Source
from ror_jax.predict.photographs import read_photographs
from ror_jax.startup import CACHE_DIR
from ror_jax.tasks import create_task
from ror_jax.tasks.answers import Answer, cells, readings, with_intervals
from ror_jax.tasks.task import state_from_json

FORMAT = 3  # of the folder; what older programs would misread gets a new number
BATCH = 32  # faces
VIEWS = {"single": (False,), "flip": (False, True)}  # of each view, whether it is a mirror image


class Model:
    """A network with all that it takes to use it on photographs.

    Args:
      model: the name of a pretrained model, or a folder that `python -m ror_jax.export` wrote, see
        `ror_jax.models.zoo.model_folder`; None: the default pretrained model.
      engine: what runs the network, one of `ENGINES`; default: ONNX Runtime on a CPU, where it is faster and
        knows the network, or XLA.
      cache_dir: where pretrained models are kept that had to be downloaded.

    Attributes:
      folder: the model's.
      card: what stands in `model.json`.
      engine: what runs the network.
      views: what is seen of a face where nothing else is asked for, as in the test of the network.
      answers: what the answers are, by name, see `Answer.describe`.
      columns: those of `results.csv` that they fill.

    Raises:
      UserError: there is no such model, or it is damaged or of another version, or there is no such engine.
      DataError: a pretrained model cannot be downloaded.
    """

    def __init__(
        self,
        model: str | os.PathLike | None = None,
        engine: str | None = None,
        cache_dir: str | os.PathLike = CACHE_DIR,
    ):
        self.folder = folder = model_folder(model, cache_dir)
        self.card = load_model_card(folder)
        check_registered(folder / CARD, self.card["model"], self.card["task"]["name"])
        try:
            self._task = create_task(labels=self.card["labels"], **self.card["task"])
            self._preprocessing = Preprocessing(**self.card["preprocessing"])
            self._task_state = state_from_json(self._task, self.card["task_state"])
            self._intervals, self.views = self.card["intervals"], self.card["views"]
            if self.views not in VIEWS:
                raise unknown("views", self.views, VIEWS)
            self._answer = jax.jit(self._answers, static_argnums=1)
            heads = from_json(self.card["heads"])
            outputs = {name: np.zeros((1, 1, head.size), np.float32) for name, head in heads.items()}
            answers = self._answered(outputs, "single", 1)  # what is wrong is told at once
            self.answers = {name: answer.describe() for name, answer in answers.items()}
            self.columns = list(cells(self.answers, readings(answers, 1)[0]))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise UserError(f"{folder / CARD} is damaged: {error}; export the model again") from error
        if engine is not None and engine not in ENGINES:
            raise unknown("engine", engine, ENGINES)
        if checksum(folder) != self.card.get("sha256"):
            raise UserError(f"{folder / TENSORS} is damaged, or of another model; copy or export it again")
        network = load_model(folder)
        self.engine = engine or ("onnxruntime" if jax.default_backend() == "cpu" and has_onnx(network) else "xla")
        self._network = ENGINES[self.engine](network, self._preprocessing.size)

    def finder(
        self, faces: str = "detect", detector: str | Detector = DETECTOR, keep: FaceFilter | None = None
    ) -> FaceFinder:
        """What finds faces in photographs for this model, see `predict` and `FaceFinder` for the arguments."""
        return FaceFinder(self._preprocessing, faces, detector, keep)

    def read(self, crops: Sequence[Crop], views: str | None = None) -> list[dict[str, Any]]:
        """Returns what the network reads from B faces, as a finder cuts them, see `ror_jax.tasks.answers.readings`.

        `views` is "single", or "flip" for the mean over each face and its mirror image; None: the model's own.
        """
        answers = self.read_pixels(np.stack([crop.pixels for crop in crops]), views)
        places = np.stack([_in_photograph(crop) for crop in crops])
        return readings({name: answer.to_photograph(places) for name, answer in answers.items()}, len(crops))

    def read_pixels(self, pixels: np.ndarray, views: str | None = None) -> dict[str, Answer]:
        """Returns the answers to B faces as the network sees them, uint8 [B, size, size, 3]; `views` is as for `read`.

        Places are parts of the side.
        """
        views = views or self.views
        if views not in VIEWS:
            raise unknown("views", views, VIEWS)
        seen = np.stack([pixels[:, :, ::-1] if mirrored else pixels for mirrored in VIEWS[views]], 1)
        outputs = self._network(seen.reshape(-1, *pixels.shape[1:]))
        outputs = {name: _filled(np.reshape(output, (*seen.shape[:2], -1)), 0) for name, output in outputs.items()}
        return self._answered(outputs, views, len(pixels))

    def predict(
        self,
        images: Source | Iterable[Source],
        *,
        faces: str = "detect",
        detector: str | Detector = DETECTOR,
        min_score: float | None = None,
        min_size: float = 0,
        largest: int | None = None,
        views: str | None = None,
        batch_size: int = BATCH,
    ) -> list[dict[str, Any]]:
        """What is in photographs: a dict for each, in their order, see `photographs.read_photographs`.

        Args:
          images: one or several: the path of a file, its bytes, a Pillow image, or an array, uint8 [H, W, 3] in the
            order red, green, blue (OpenCV's arrays are blue, green, red: `array[:, :, ::-1]`), [H, W, 4] with alpha,
            or [H, W] in grey. Arrays and Pillow images are copied when they are taken from the iterable.
          faces: "detect", or "cropped" where each image is one face, cut as the training images were.
          detector: the name of one, see `input_pipeline.detection`, or a function.
          min_score, min_size, largest: which of the faces that it finds are read, see `FaceFilter`.
          views: see `read`.
          batch_size: faces that the network sees at once. Answers depend on it by rounding alone.
        """
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; it must be 1 or more")
        one = isinstance(images, Source) and (not isinstance(images, np.ndarray) or images.ndim < 4)
        find = self.finder(faces, detector, FaceFilter(min_score, min_size, largest))
        read = lambda crops: self.read(crops, views)  # noqa: E731
        return list(read_photographs([images] if one else images, find, read, batch_size))

    def _answered(self, outputs: dict[str, np.ndarray], views: str, count: int) -> dict[str, Answer]:
        """The answers to `count` faces, with their intervals, from outputs [count or more, V, size]."""
        answers = jax.device_get(self._answer(outputs, VIEWS[views]))
        answers = jax.tree.map(lambda values: values[:count], answers)
        return with_intervals(answers, self._intervals)

    def _answers(self, outputs: dict, mirrored: tuple[bool, ...]) -> dict[str, Answer]:
        return self._task.answers(self._task.decode(outputs, mirrored), self._task_state)


def load_model_card(folder: Path | str) -> dict:
    """`model.json` of an exported model; raises UserError where there is none that this program can read."""
    folder = Path(folder)
    if not (folder / CARD).is_file():
        raise UserError(f"no model in {folder}: {CARD} is missing; python -m ror_jax.export makes such a folder")
    card = read_json(folder / CARD)
    if "format" not in card:
        raise UserError(
            f"{folder} is a folder of weights, such as a run leaves, and does not say how to use them;"
            f" python -m ror_jax.export --workdir={folder} --output=DIR makes a model of a run"
        )
    if card["format"] != FORMAT:
        versions = card.get("versions")
        writer = versions.get("ror_jax") if isinstance(versions, dict) else "another version"
        raise UserError(
            f"{folder / CARD} has format {card['format']} (of ror_jax {writer}), but this program reads format"
            f" {FORMAT}; install that version, or export the run again with this one"
        )
    task = card.get("task")
    named = isinstance(task, dict) and isinstance(task.get("name"), str) and isinstance(card.get("model"), str)
    if not (named and {"heads", "labels", "name"} <= card.keys()):
        words = "model, task, heads, labels or name are missing"
        raise UserError(f"{folder / CARD} is damaged: {words}; export the model again")
    return card


def save_model_card(folder: Path, card: dict) -> None:
    """Writes `model.json` for the weights that lie in the folder, with their checksum, so that damage is noticed."""
    versions = {"ror_jax": __version__} | {name: version(name) for name in ("jax", "flax")}
    save_card(folder, card | {"format": FORMAT, "sha256": checksum(folder), "versions": versions})


def check_output(folder: Path) -> None:
    """Raises UserError where an exported model in this folder would replace something else."""
    with writing(folder):
        taken = folder.exists() and any(folder.iterdir())
    if taken and not ((folder / CARD).exists() and "format" in read_json(folder / CARD)):
        raise UserError(f"--output is {folder}, which is no exported model and not empty; choose another folder")


def clear_output(folder: Path) -> None:
    """Makes the folder, and removes what an exported model that was there has besides its weights."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for pattern in ("README.md", "model.onnx", "model.stablehlo", "results_*.png"):
            for path in folder.glob(pattern):
                path.unlink()


def _in_photograph(crop: Crop) -> np.ndarray:
    """The matrix [2, 3] from (x, y, 1), parts of the crop's side, to pixels of the photograph."""
    return np.linalg.inv([*crop.shares, (0, 0, 1)])[:2]


def _xla(model: Network, image_size: int) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    graph, state = nnx.split(model)

    @jax.jit
    def run(state, images):
        return nnx.merge(graph, state)(images)

    def network(images):
        outputs = run(state, _filled(images, 0))
        return {name: np.asarray(outputs[name])[: len(images)] for name in model.heads}

    return network


def _onnxruntime(model: Network, image_size: int) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    to_onnx(model, file := io.BytesIO(), image_size)
    run = open_onnx(file.getvalue())
    constants = {name: head(1) for name, head in model.heads.items() if head.spec.trunk is None}  # which ONNX lacks
    return lambda images: run(images) | {name: np.repeat(row, len(images), 0) for name, row in constants.items()}


ENGINES = {"onnxruntime": _onnxruntime, "xla": _xla}


def _filled(array: np.ndarray, axis: int) -> np.ndarray:
    """Zeros behind, up to the next power of two: so there are few shapes, of which each is compiled once."""
    rows = array.shape[axis]
    behind = [(0, 0)] * array.ndim
    behind[axis] = (0, (1 << (rows - 1).bit_length()) - rows)
    return np.pad(array, behind)
