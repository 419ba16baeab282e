"""What `tools.detection` counts, by hand, and where it expects faces in changed photographs."""

import numpy as np
from PIL import Image

from input_pipeline.detection import Face
from input_pipeline.geometry import apply
from tools.detection import changes, compare, count, main

LANDMARKS = np.array([(30, 40), (70, 40), (50, 60), (35, 80), (65, 80)], float)


def face(landmarks):
    return Face((*(landmarks.min(0) - 20), 80, 80), 0.9, landmarks)


def turned(degrees):
    angle = np.radians(degrees)
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    return (LANDMARKS - LANDMARKS.mean(0)) @ turn + LANDMARKS.mean(0)


def test_faces_are_found_near_their_places_and_upright_if_they_lean_little():
    expected = [LANDMARKS, LANDMARKS + 200, LANDMARKS + 400]
    found = [face(turned(14)), face(turned(16) + 200), face(LANDMARKS + 600), face(LANDMARKS + 800)]
    assert compare(found, expected) == (3, 2, 1, 2)
    assert compare([], expected) == (3, 0, 0, 0)


def test_the_matrices_follow_the_photograph():
    """A white spot in black is seen where the matrix says, if it was not cut off or covered."""
    pixels = np.zeros((200, 160, 3), np.uint8)
    pixels[93:107, 83:97] = 255
    spot = np.array([90.0, 100.0])
    seen = {}
    for name, image, matrix in changes(Image.fromarray(pixels), Face((45, 50, 90, 100), 0.9, LANDMARKS)):
        x, y = apply(matrix, spot)
        near = np.asarray(image)[int(max(0, y - 2)) : int(y + 2), int(max(0, x - 2)) : int(x + 2)]
        seen[name] = near.max() > 150
    assert len(seen) == 17 and all(seen.values())


def test_all_changes_are_counted():
    """A detector that sees one face in the middle of whatever it gets; nothing in the second photograph."""
    middle = LANDMARKS - LANDMARKS.mean(0)

    def detect(image):
        centre = np.divide(image.size, 2)
        return [] if image.getpixel((0, 0)) == (9, 9, 9) else [face(middle + centre)]

    counts = count(detect, [Image.new("RGB", (200, 240)), Image.new("RGB", (200, 240), (9, 9, 9))])
    assert len(counts) == 18
    assert counts["as they are"].tolist() == [2, 1, 1, 0]
    assert counts["turned by 90 degrees"].tolist() == [1, 1, 0, 0]
    assert counts["faces of 16 pixels, in 640 x 480"].tolist() == [1, 0, 0, 1]


def test_the_command(shared, capsys):
    main([str(shared("data/photos")), "--limit=1"])
    head, line, first, *_ = capsys.readouterr().out.splitlines()
    assert head.startswith("| photographs | faces | found") and line.startswith("|---")
    assert first == "| as they are | 1 | 1 | 1 | 0 |"
