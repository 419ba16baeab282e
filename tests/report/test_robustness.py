"""Answers to changed images, of readers whose answers can be worked out."""

import numpy as np
import pytest

from input_pipeline.geometry import Points as PointsOnImage
from input_pipeline.transforms import Crop
from ror_jax.report.robustness import CHANGES, most_harmful, robustness, robustness_table
from ror_jax.tasks.answers import Number, Points

SIDE = 32


def measure(images, read, truth, labels, **more):
    """What `robustness` finds of images, with a label each."""
    crops = [Crop(image, np.eye(2, 3)) for image in images]
    records = [{"image": b"", "path": "x", "label": label} for label in labels]
    return robustness(read, truth, records, crops, **{"geometry": {}, "fill": (0, 0, 0)} | more)


def test_brightness_is_multiplied_and_cut():
    """A reader that answers the level of a grey image, of 100 and of 200; the truth is what it answers."""
    images = [np.full((SIDE, SIDE, 3), level, np.uint8) for level in (100, 200)]
    read = lambda pixels: {"level": Number(pixels.mean((1, 2, 3)), high=255.0)}  # noqa: E731
    found = measure(images, read, lambda batch: {"level": batch["label"]}, [100.0, 200.0], fill=(100, 100, 100))
    assert len(found) == 1 + sum(len(amounts) for _, amounts in CHANGES.values()) == 21
    assert found["unchanged"]["level_mae"].tolist() == [0, 0]
    assert found["0.25 times as bright"]["level_mae"].tolist() == [75, 150]
    assert found["2 times as bright"]["level_mae"].tolist() == [100, 55]  # 200 and 255
    assert found["turned by 45 degrees"]["level_mae"][0] == 0 < found["turned by 45 degrees"]["level_mae"][1]
    table = robustness_table(found)
    assert table.columns == ["", "level: MAE (years)"]
    assert dict(table.rows)["0.25 times as bright"] == "112.5 (75.0 to 150.0) †"
    assert most_harmful(found) == (
        "level: MAE (years): 112.50 instead of 0.00 with the most harmful change, 0.25 times as bright.",
    )
    by_chance = {"unchanged": {"nme": np.array([0.1, 0.2])}, "turned": {"nme": np.array([0.05, 0.3])}}
    assert most_harmful(by_chance) == ()


def test_jpeg_and_blur_take_detail_away():
    """A reader of the contrast of a checkerboard."""
    board = np.indices((SIDE, SIDE)).sum(0)[..., None] % 2 * np.full(3, 200, np.uint8)
    read = lambda pixels: {"contrast": Number(pixels.std((1, 2, 3)))}  # noqa: E731
    found = measure([board.astype(np.uint8)], read, lambda batch: {"contrast": batch["label"]}, [100.0])
    lost = {words: scores["contrast_mae"][0] for words, scores in found.items()}
    assert lost["unchanged"] == 0 and lost["JPEG quality 50"] < lost["JPEG quality 5"]
    assert 0 < lost["blurred with sigma 0.5 px"] < lost["blurred with sigma 2 px"] == pytest.approx(100, abs=1)


def test_points_move_with_the_image():
    """A reader that finds a bright dot wherever it is makes no error; a second point is always half a side from it."""
    image, both = np.zeros((64, 64, 3), np.uint8), np.array([[0, 0], [0.5, 0]])
    image[22:26, 38:42] = 255

    def read(pixels):
        shares = pixels[..., 0] / pixels[..., 0].sum((1, 2), keepdims=True)
        places = (np.arange(64) + 0.5) / 64
        dots = np.stack([shares.sum(1) @ places, shares.sum(2) @ places], -1)
        return {"points": Points(dots[:, None] + both)}

    truth = lambda batch: {"points": batch["label"] + both}  # noqa: E731
    found = measure([image], read, truth, [np.array([[40, 24]])], geometry={"label": PointsOnImage()})
    for words in ("unchanged", "face 0.8 times as large", "face 1.4 times as large", "turned by 45 degrees"):
        assert found[words]["points_nme"][0] == pytest.approx(0, abs=0.02), words
