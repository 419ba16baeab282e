"""Noise for faces; a tiny Adience: the layout and the label habits of the real one."""

import numpy as np
import pytest
from PIL import Image

COLUMNS = "user_id original_image face_id age gender x y dx dy tilt_ang fiducial_yaw_angle fiducial_score"
LABELS = ["(0, 2)", "(8, 12)", "(25, 32)", "(60, 100)", "35", "(38, 42)", "None"]
GENDERS = ["f", "m", "u", ""]


@pytest.fixture
def save_face():
    """A function that writes an image (blocks of noise, another for every number) to a path, with its folder."""

    def save(path, number=0, size=(70, 70)):
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = np.random.default_rng(number).integers(0, 256, (4, 4, 3)).astype(np.uint8)
        Image.fromarray(blocks).resize(size).save(path, "JPEG")

    return save


@pytest.fixture
def adience_folder(tmp_path, save_face):
    """14 rows in each of five folds: 7 users with 2 faces each. Labels repeat every 7 rows, genders every 4."""
    folder, number = tmp_path / "adience", 0
    for fold in range(5):
        lines = [COLUMNS.replace(" ", "\t")]
        for row in range(14):
            user, image = f"{fold * 7 + row // 2}@N00", f"{number}_o.jpg"
            path = folder / "aligned" / user / f"landmark_aligned_face.{number}.{image}"
            save_face(path, number, size=(40, 40))
            lines.append("\t".join([user, image, str(number), LABELS[number % 7], GENDERS[number % 4], *"0000000"]))
            number += 1
        (folder / f"fold_{fold}_data.txt").write_text("\n".join(lines) + "\n")
    return folder
