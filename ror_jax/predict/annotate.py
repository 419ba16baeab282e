"""Photographs with a box around each face and what was read from it beside it."""

from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ror_jax.predict.results import Answers

COLOUR, INK = (255, 209, 60), (20, 20, 20)


def annotate(image: Image.Image, faces: list[dict[str, Any]], answers: Answers) -> Image.Image:
    """A copy of the photograph, RGB and upright, with its `faces` as `read_photographs` tells of them.

    `answers` describes them, see `Answer.describe`.
    """
    points = [name for name, description in answers.items() if description["kind"] == "points"]
    image = image.copy()
    draw = ImageDraw.Draw(image)
    line = max(2, round(min(image.size) / 300))
    for face in faces:
        left, top, width, height = face["box"]
        draw.rectangle((left, top, left + width, top + height), outline=COLOUR, width=line)
        font = ImageFont.load_default(max(12, round(0.09 * width)))
        for x, y in (point for name in points for point in face[name]):
            draw.ellipse((x - line, y - line, x + line, y + line), fill=COLOUR)
        if not (words := face["words"].replace("; ", "\n")):
            continue
        box = draw.multiline_textbbox((0, 0), words, font=font)
        pad = font.size / 4
        size = box[2] + 2 * pad, box[3] + 2 * pad
        # Below the box, or where there is no room, inside; never outside of the photograph.
        x = max(0, min(left, image.width - size[0]))
        y = min(top + height, image.height - size[1])
        draw.rectangle((x, y, x + size[0], y + size[1]), fill=COLOUR)
        draw.multiline_text((x + pad, y + pad), words, fill=INK, font=font)
    return image
