"""Reading photographs, from files to ages and genders: drawn photographs, read by a network that has learnt nothing."""

import dataclasses
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from flax import nnx

from input_pipeline.face_renderer import background, render_face, sample_person
from ror_jax.models import create_model, describe_network
from ror_jax.models.weights import save_weights
from ror_jax.predict.faces import Preprocessing, open_photograph
from ror_jax.predict.model import BATCH, ENGINES, Model, save_model_card
from ror_jax.tasks import create_task
from ror_jax.tasks.task import state_to_json
from tools.benchmark.measuring import MEAN, STD, Options, Row, by_turns


def predict(options: Options) -> list[Row]:
    """photographs of 1280x960 pixels to ages and genders with ror34 at 224 px: photographs/s, and ms of its parts"""
    work = options.workload("ror34", BATCH, 224)
    size, count = ((320, 240), 2) if options.tiny else ((1280, 960), 32)
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), work.model, work.pixels)
        usual = Model(folder)
        models = [usual, *(Model(folder, engine) for engine in ENGINES if engine != usual.engine)]
        files, drawn = draw_photographs(Path(folder), count, size)
        find = usual.finder()
        images = [open_photograph(file, file.name) for file in files]
        crops = [crop for image in images for crop in find(image, "drawn")[1]]
        batch = list(itertools.islice(itertools.cycle(crops), BATCH))  # the faces, over and over
        runs = [
            lambda: usual.predict(files),
            lambda: [open_photograph(file, file.name) for file in files],
            lambda: [find(image, "drawn") for image in images],
            *(lambda model=model: model.read(batch) for model in models),
        ]
        whole, *parts = by_turns([_repeated(run) for run in runs], options.rounds).T
    decoding, finding, *networks = (1e3 * seconds / count for seconds in parts)
    networks = [part * len(crops) / BATCH for part in networks]  # a photograph's, as the others
    shares = [np.median(part) for part in (decoding, finding, networks[0])]
    shares = [f"{100 * share / sum(shares):.0f} %" for share in shares]
    note = (
        f"{len(crops)} of {drawn} faces were found in {count} photographs. One after the other, {shares[0]} of the time"
        f" would be decoding, {shares[1]} finding and aligning, {shares[2]} the network; threads do the first two side"
        " by side, and while the network runs"
    )
    engines = " : ".join(model.engine for model in models)
    return [
        Row(
            f"photographs, end to end, {work.model} {work.pixels} px, {size[0]}x{size[1]}, {usual.engine}",
            "photographs/s",
            None,
            tuple(count / whole),
            wrong="" if crops else "no face was found",
            note=note,
        ),
        Row("of it decoding, one thread", "ms", None, tuple(decoding)),
        Row("of it finding and aligning faces, one thread", "ms", None, tuple(finding)),
        Row(f"of it the network, batch {BATCH}, {engines}", "ms", ("<=", 1.0), *map(tuple, networks)),
    ]


def _repeated(run: Callable[[], object]) -> Callable[[int], object]:
    return lambda count: [run() for _ in range(count)]


def write_model(folder: Path, name: str, size: int) -> None:
    """A folder as `ror_jax.export` writes it, of a network for age and gender with the weights that it begins with."""
    labels = {"gender": ("female", "male"), "age": tuple(map(str, range(101)))}
    task = create_task("age_gender", labels)
    network = create_model(name, task.heads, rngs=nnx.Rngs(0), mean=MEAN, std=STD)
    _, *states = nnx.split(network, nnx.Param, nnx.BatchStat)
    card = {
        **describe_network(name, {}, network),
        **{
            "task": {"name": "age_gender"},
            "task_state": state_to_json(task.initial_state()),
            "intervals": {},
            "views": "single",
            "name": name,
        },
        "labels": labels,
        "preprocessing": dataclasses.asdict(Preprocessing(size, size, "crop", list(MEAN), [1.0, 1.0], {}, {})),
    }
    save_weights(folder, *map(nnx.to_pure_dict, states), card)
    save_model_card(folder, card)


def draw_photographs(folder: Path, count: int, size: tuple[int, int]) -> tuple[list[Path], int]:
    """Draws JPEGs of (width, height) with one or two faces each; returns the files, and how many faces are in them."""
    rng, files, faces = np.random.default_rng(0), [], 0
    half, height = size[0] // 2, size[1]
    for number in range(count):
        image = background(rng, max(size)).crop((0, 0, *size))
        for place in range(1 + number % 2):
            side = int(rng.uniform(0.4, 0.6) * height)
            face, _ = render_face(sample_person(rng), rng.uniform(5, 80), rng, side)
            image.paste(face, (place * half + int(rng.integers(half - side)), int(rng.integers(height - side))))
            faces += 1
        files.append(folder / f"{number}.jpg")
        image.save(files[-1], quality=90)
    return files, faces
