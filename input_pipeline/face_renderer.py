"""Draws cartoon faces whose looks depend on age, gender and identity: data with nothing to download.

They are drawings, not photographs: what a network reaches on them says that the program works, and nothing about
people. The rules in here (men bald, girls wear their hair long) are caricature, with exceptions drawn in on purpose.

Every feature is drawn in *face coordinates*: x to the image's right, y down, the skull's top at y = -1, the chin at +1.
`Face.project` takes them to pixels and turns the head, so that no feature needs to know about pose or image size.
"""

from collections import namedtuple
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

SUPERSAMPLING = 2
STYLES = {"cropped": 0.035, "short": 0.1, "curly": 0.15, "tied": 0.05, "bob": 0.11, "long": 0.09}  # volume
STYLE_PROBABILITIES = ((0.03, 0.09, 0.15, 0.17, 0.25, 0.31), (0.37, 0.38, 0.13, 0.03, 0.05, 0.04))  # female, male
STYLE_LENGTHS = {"bob": 0.75, "long": 1.5}  # y that it reaches behind the head
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
SKIN_TONES = ((255, 226, 206), (246, 205, 174), (229, 178, 138), (199, 143, 101), (150, 97, 66), (106, 70, 51))
HAIR_COLOURS = ((44, 36, 34), (74, 48, 36), (114, 75, 47), (160, 116, 72), (222, 182, 116), (172, 80, 42))
EYE_COLOURS = ((74, 46, 30), (98, 66, 38), (112, 120, 62), (70, 116, 150), (104, 134, 148), (72, 128, 98))
WHITE_HAIR = np.array((226.0, 224.0, 220.0))

Shape = namedtuple("Shape", "face jaw eye_spacing eye_size brow nose_length nose_width mouth lips ear hair wrinkles")


@dataclass(frozen=True)
class Person:
    """What stays the same in all pictures of one person."""

    gender: int  # 0 female, 1 male
    masculinity: float  # 0..1, of jaw, brows, lips and lashes; the two genders overlap
    shape: Shape  # lengths and widths, relative to the average person's
    skin_tone: float  # 0 lightest .. 1 darkest
    eye_colour: tuple[int, int, int]
    hair_colour: tuple[int, int, int]
    hair_style: str  # one of STYLES
    parting: float  # -1 image left .. 1 image right
    fringe: bool
    beard: str  # one of BEARDS; worn by grown men only
    greying_age: float  # years
    balding: float  # 0 never .. 1 bald when old
    age_offset: float  # years that this person, once grown, looks older than they are
    glasses: bool
    detail_seed: int  # of strands, curls and spots


@dataclass(frozen=True)
class FaceTruth:
    """Where the face is in the image, in pixels, and how it looks."""

    box: np.ndarray  # float32 [4]: x0, y0, x1, y1 round the head without hair and ears
    landmarks: np.ndarray  # float32 [5, 2]: eyes, nose tip, mouth corners; of a pair the one on the image's left first
    smile: float  # 0..1
    yaw: float  # degrees; positive turns the face to the image's right


def sample_person(rng: Generator) -> Person:
    """Draws an identity."""
    gender, skin_tone = int(rng.integers(2)), float(rng.beta(1.1, 1.6))
    return Person(
        gender=gender,
        masculinity=float(np.clip(rng.normal((0.2, 0.8)[gender], 0.14), 0, 1)),
        shape=Shape(*np.clip(rng.normal(1, 0.1, len(Shape._fields)), 0.8, 1.2).tolist()),
        skin_tone=skin_tone,
        eye_colour=EYE_COLOURS[rng.integers(2 if skin_tone > 0.5 else 6)],
        hair_colour=HAIR_COLOURS[rng.integers(2 if rng.random() < 0.1 + 1.4 * skin_tone else 6)],
        hair_style=str(rng.choice(list(STYLES), p=STYLE_PROBABILITIES[gender])),
        parting=float(rng.uniform(-1, 1)),
        fringe=bool(rng.random() < (0.4, 0.2)[gender]),
        beard=str(rng.choice(BEARDS, p=(0.45, 0.2, 0.08, 0.1, 0.17))) if gender else "none",
        greying_age=float(rng.normal(43, 7) + 25 * (rng.random() < (0.25, 0.03)[gender])),  # some dye their hair
        balding=float(rng.beta(1.2, 1.2) if gender else rng.uniform(0, 0.15)),
        age_offset=float(rng.normal(0, 3)),
        glasses=bool(rng.random() < 0.15),
        detail_seed=int(rng.integers(2**31)),
    )


def mix(first, second, amount):
    return first + (np.asarray(second) - first) * amount


def ramp(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))


def both_sides(shapes) -> np.ndarray:
    """Shapes on the right [K, N, 2] and their mirror images on the left [2 K, N, 2]."""
    return np.concatenate([shapes, np.asarray(shapes) * (-1, 1)])


def outline(right) -> np.ndarray:
    """Closes a path on the right half, from top to bottom [N, 2], with its mirror image [2 N, 2]."""
    return np.concatenate([right, np.asarray(right, float)[::-1] * (-1, 1)])


T = np.linspace(0, 1, 7)[:, None]
CATMULL_ROM = np.hstack([-T + 2 * T**2 - T**3, 2 - 5 * T**2 + 3 * T**3, T + 4 * T**2 - 3 * T**3, T**3 - T**2]) / 2
BEZIER, TANGENT = np.hstack([(1 - T) ** 2, 2 * T * (1 - T), T**2]), np.hstack([T - 1, 1 - 2 * T, T])
TAPER = np.sin(np.pi * (0.04 + 0.92 * T)) ** 0.7
CIRCLE = np.stack([np.cos(np.arange(20) * np.pi / 10), np.sin(np.arange(20) * np.pi / 10)], axis=1)
ACROSS = np.linspace(-1, 1, 15)[:, None]
ARCH = (1 - ACROSS**2) * (0.0, 1.0)  # added to a row of points, bends it down in the middle


def smooth(control, closed: bool = False) -> np.ndarray:
    """A Catmull-Rom curve through the control points [N, 2]."""
    padded = np.concatenate([control[-1:], control, control[:2]] if closed else [control[:1], control, control[-1:]])
    return (CATMULL_ROM @ np.stack([padded[i : len(padded) - 3 + i] for i in range(4)], axis=1)).reshape(-1, 2)


class Face:
    """One person at one age in one picture, and a method that draws each feature."""

    def __init__(self, person: Person, age_years: float, rng: Generator, size: int):
        self.person, self.shape, self.size, pixels = person, person.shape, size, size * SUPERSAMPLING
        self.detail = np.random.default_rng(person.detail_seed)
        self.smile = float(rng.beta(0.8, 0.9))
        self.yaw, roll = np.radians(np.clip(rng.normal(0, (10, 4)), (-25, -10), (25, 10)))
        self.scale = pixels * rng.uniform(0.335, 0.385)  # half the height of the head
        self.centre = pixels * rng.uniform((0.46, 0.47), (0.54, 0.55))  # of the head
        self.rotation = self.scale * np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
        self.light, self.tint = rng.uniform((-1, -0.8), (1, 0)), rng.uniform(0.9, 1.06) * rng.normal(1, 0.025, 3)
        self.clothes = mix(rng.uniform(0, 255, 3), rng.uniform(50, 220), 0.5)
        self.has_glasses = rng.random() < ramp(age_years, 3, 8) * max(0.8 * person.glasses, ramp(age_years, 40, 140))
        self.image = background(rng, pixels)
        self.draw = ImageDraw.Draw(self.image)
        self.set_age(age_years + person.age_offset * min(1.0, age_years / 25))  # no baby looks three years younger

    def set_age(self, age: float):
        """The quantities that several features share; `age` is the one that the person appears to have."""
        self.age, person, shape = age, self.person, self.shape
        self.growth = growth = float(np.interp(age, (0, 2, 6, 12, 18, 26), (0, 0.28, 0.52, 0.76, 0.94, 1)))
        self.masculine = 0.5 + (person.masculinity - 0.5) * mix(0.25, 1.0, ramp(age, 11, 19))
        self.wear = wear = 1.2 * shape.wrinkles * ramp(age, 20, 98)  # of the skin: 0 when young, about 1 at 85
        self.width = mix(0.92, 0.72, growth) * mix(1, shape.face, 0.5)  # half the head's
        self.eye = np.array([mix(0.4, 0.315, growth) * shape.eye_spacing, mix(0.22, -0.02, growth)])
        self.nose_y = mix(0.47, 0.32 + 0.04 * wear, growth) + 0.15 * (shape.nose_length - 1)
        corner = mix(0.17, 0.25, growth) * shape.mouth, mix(0.7, 0.63, growth) + 0.02 * wear  # of the mouth, at rest
        self.corner = np.array(corner) * (1 + 0.22 * self.smile, 1) - (0, 0.055 * self.smile)

        skin = np.array([np.interp(person.skin_tone, np.arange(6) / 5, tones) for tones in np.transpose(SKIN_TONES)])
        self.skin = mix(skin, skin.mean(), 0.3 * wear) * (1 - 0.05 * wear)  # old skin is paler
        pigment = mix(np.array(person.hair_colour), (214, 164, 104), 0.3 * (1 - growth) * (1 - person.skin_tone))
        self.grey = 0.95 * ramp(age, person.greying_age, person.greying_age + 28)  # fraction of hair
        self.hair = mix(pigment, WHITE_HAIR, self.grey)
        self.cover = np.interp(age * shape.hair**3, (0, 0.7, 2, 3.5, 60, 95), (0.15, 0.35, 0.75, 1, 1, 0.7))  # by hair
        self.recede = person.balding * ramp(age, 22, 72) ** 0.7  # 0 full hairline, 1 bald on top
        cheek, chin = mix(1.04, 0.95, growth), mix(0.40, 0.29 + 0.22 * self.masculine, growth)
        jaw = mix(0.86, 0.67 + 0.19 * self.masculine, growth) * mix(1, shape.jaw, 0.5) + 0.07 * wear
        right = [(0, -1), (0.56, -0.9), (0.92, -0.52), (1, -0.08), (cheek, 0.32), (jaw, 0.68), (chin, 0.935), (0, 1)]
        self.head = smooth((outline(right) * (self.width, 1))[:-1], closed=True)  # [105, 2], clockwise from the top

    def shaded(self, amount):
        """Skin as it looks in folds and shadows."""
        return mix(self.skin, self.skin * (0.64, 0.5, 0.45), amount)

    def strands(self, count: int) -> np.ndarray:
        """Colours of single strands of hair [count, 3]: each goes grey at its own time."""
        white = 0.45 * (self.detail.random((count, 1)) < self.grey)
        colours = mix(self.hair, WHITE_HAIR, white) * self.detail.uniform(0.8, 1.18, (count, 1))
        return mix(self.skin, np.clip(colours, 0, 255), self.cover)

    def project(self, points, lift: float = 0.0) -> np.ndarray:
        """Face coordinates [..., 2] to pixels [..., 2]. `lift` raises the points off the skull, towards the viewer."""
        turned = np.array(points, float)
        x, y = turned[..., 0], turned[..., 1]
        depth = 0.7 * np.sqrt(np.maximum(1 - (x / 0.85) ** 2 - (y / 1.1) ** 2, 0)) + lift
        turned[..., 0] = x * np.cos(self.yaw) + depth * np.sin(self.yaw)
        return turned @ self.rotation + self.centre

    def paint(self, shapes, colours, lift: float = 0.0):
        """Fills one polygon [N, 2] or several [K, N, 2], with one colour [3] or a colour for each [K, 3]."""
        pixels = self.project(shapes, lift)
        pixels = pixels.reshape(-1, 2 * pixels.shape[-2]).tolist()
        for polygon, fill in zip(pixels, np.broadcast_to(colours, (len(pixels), 3)).astype(int).tolist(), strict=True):
            self.draw.polygon(polygon, fill=tuple(fill))

    def stroke(self, curves, widths, colours, lift: float = 0.0):
        """Tapered strokes along quadratic Bezier curves [K, 3, 2]; `widths` and `colours` for each or for all."""
        path = BEZIER @ np.asarray(curves, float)  # [K, 7, 2]
        along = TANGENT @ np.asarray(curves, float)
        normal = along[..., ::-1] * (1, -1) / (np.linalg.norm(along, axis=-1, keepdims=True) + 1e-9)
        offset = normal * TAPER * (np.broadcast_to(widths, len(path))[:, None, None] / 2)
        self.paint(np.concatenate([path + offset, (path - offset)[:, ::-1]], axis=1), colours, lift)

    def back_hair(self):
        """The hair behind the head: long styles, and the knot of hair that is tied up."""
        style, dark = self.person.hair_style, mix(self.skin, self.hair * 0.72, self.cover)
        wide = self.width * mix(1, 1.18, self.cover) * self.shape.hair
        if style == "tied" and self.age > 2:
            self.paint(CIRCLE * (0.3, 0.28) + (self.person.parting * 0.2, -1.08), dark, -0.1)
        if style in STYLE_LENGTHS and self.age > 1:
            low = STYLE_LENGTHS[style] * ramp(self.age, 1, 6) * (1 - 0.5 * ramp(self.age, 45, 75))
            side = [(0, -1.1), (0.6, -1), (0.93, -0.6), (1, 0), (1.05, low * 0.6), (0.9, low), (0, low + 0.03)]
            self.paint(smooth(outline(side) * (wide, 1)), dark, -0.15)
            across = np.linspace(0.6, 0.94, 14)[:, None] * (wide, 0)
            curves = np.stack([across - (0, 0.4), across * 1.09 + (0, low / 2), across * 0.93 + (0, low)], axis=1)
            self.stroke(both_sides(curves), 0.025, self.strands(28) * 0.85, -0.15)

    def body(self):
        neck = self.width * mix(0.48, 0.47 + 0.24 * self.masculine, self.growth)
        shoulder = mix(0.95, 1.05 + 0.5 * self.masculine, self.growth)
        self.paint(outline([(neck, 0.5), (neck, 1.2), (neck * 1.3, 1.6)]), self.shaded(0.35), -0.3)
        slope = smooth([(neck * 1.02, 1.16), (shoulder * 0.75, 1.32), (shoulder, 1.6), (shoulder * 1.05, 2.4)])
        self.paint(outline([(0, 1.42), (neck * 0.6, 1.36), *slope]), self.clothes, -0.3)

    def skull(self):
        """The ears, and nested outlines of the skull that brighten towards the light: a round head for little work."""
        if self.person.hair_style not in STYLE_LENGTHS or self.age < 3:
            tall = mix(0.15, 0.17 + 0.05 * self.wear, self.growth) * self.shape.ear
            ears = both_sides([[(self.width * 1.02, self.eye[1] + 0.14)]])
            self.paint(ears + CIRCLE * (0.55 * tall, tall), self.shaded(0.15), -0.2)
            self.paint(ears + CIRCLE * (0.3 * tall, 0.65 * tall), self.shaded(0.4), -0.2)
        step = np.linspace(0, 1, 8)[:, None, None]
        self.paint(self.head * (1 - 0.3 * step) + self.light * 0.12 * step, self.shaded(0.35 * (1 - step[:, 0]) ** 2))

    def spots(self):
        """The spots of age, and freckles on the lightest skins. Their places belong to the person."""
        places = self.detail.uniform((-0.6, -0.6), (0.6, 0.75), (44, 1, 2)) * (self.width / 0.75, 1)
        rounds = CIRCLE * self.detail.uniform(0.006, 0.018, (44, 1, 1))
        self.paint((places + rounds * (1.7, 1.3))[: int(26 * ramp(self.age, 50, 95))], self.shaded(0.3))
        if self.person.skin_tone < 0.12:
            self.paint(places * (0.75, 0.15) + (0, 0.22) + rounds * 0.6, self.shaded(0.4))

    def wrinkles(self):
        """Each line appears at its own stage of wear and deepens from there; smiling brings some forward."""
        (x, y), (corner, low), nose, early = self.eye, self.corner, self.nose_y, 0.15 * self.smile
        lines = [  # onset, width, start, middle, end: on the image's right
            (0.1, 0.024, (0.02, y - 0.36), (x, y - 0.43), (x * 1.75, y - 0.34)),  # forehead
            (0.25, 0.024, (0, y - 0.45), (x, y - 0.52), (x * 1.7, y - 0.43)),
            (0.3, 0.02, (0.05, y - 0.12), (0.035, y - 0.2), (0.06, y - 0.26)),  # frown
            (0.15 - early, 0.018, (x + 0.17, y - 0.01), (x + 0.22, y - 0.04), (x + 0.29, y - 0.07)),  # crow's feet
            (0.2 - early, 0.018, (x + 0.17, y + 0.02), (x + 0.23, y + 0.05), (x + 0.29, y + 0.07)),
            (0.1, 0.026, (x - 0.12, y + 0.1), (x, y + 0.19), (x + 0.13, y + 0.09)),  # bags under the eyes
            (0.5, 0.022, (x - 0.1, y + 0.15), (x + 0.02, y + 0.26), (x + 0.16, y + 0.14)),
            (0.12 - 2 * early, 0.03, (0.13, nose - 0.05), (corner + 0.03, nose + 0.06), (corner + 0.07, low)),  # cheeks
            (0.4, 0.026, (corner + 0.02, low + 0.03), (corner + 0.06, low + 0.1), (corner + 0.03, low + 0.2)),
        ]
        onsets, widths, *curves = zip(*lines, strict=True)
        strength = np.clip(1.15 * (self.wear - np.array(onsets)), 0, 0.7)
        seen = strength > 0.02
        widths, colours = (widths * (0.7 + 0.6 * strength))[seen], self.shaded(strength[seen, None])
        self.stroke(both_sides(np.stack(curves, axis=1)[seen]), np.tile(widths, 2), np.tile(colours, (2, 1)))

    def nose(self):
        wide = mix(0.085, 0.105 + 0.03 * self.masculine + 0.03 * self.wear, self.growth) * self.shape.nose_width
        y = self.nose_y
        bulb = [(0, y - 0.09), (0.6 * wide, y - 0.06), (wide, y + 0.01), (0.5 * wide, y + 0.05), (0, y + 0.065)]
        self.paint(outline(smooth(bulb)), self.shaded(0.22), 0.08)
        bridge = (0.075, self.eye[1] - 0.06), (0.035, (y + self.eye[1]) / 2), (0.8 * wide, y - 0.04)
        self.stroke(both_sides([bridge]), 0.025 * self.growth, self.shaded(0.35 * self.growth), 0.04)
        wing = (0.75 * wide, y - 0.05), (1.25 * wide, y + 0.01), (0.65 * wide, y + 0.05)
        nostril = (0.2 * wide, y + 0.05), (0.42 * wide, y + 0.022), (0.68 * wide, y + 0.05)
        self.stroke(both_sides([wing, nostril]), (0.022, 0.034) * 2, self.shaded(0.8), 0.1)

    def beard(self):
        beard, (x, y) = self.person.beard, self.corner
        if beard == "none" or self.age < 16:
            return
        colour = mix(self.skin, self.hair * 0.9, ramp(self.age, 15, 23) * (0.22 if beard == "stubble" else 0.92))
        if beard in ("stubble", "full"):
            jaw = self.head[(self.head[:, 1] > 0.1) & (self.head[:, 0] >= 0)] * (1, 1.02)
            cheek = smooth([(0, y + 0.13), (0.8 * x, y + 0.12), (1.3 * x, y), (self.width * 0.8, 0.36), jaw[0]])
            self.paint(outline([*cheek, *jaw]), colour)
        if beard == "goatee":
            chin = smooth([(0, y + 0.14), (0.8 * x, y + 0.1), (x, y + 0.2), (0.6 * x, 1), (0, 1.06)])
            self.paint(outline(chin), colour)
        lip = [(0, -0.13), (0.6 * x, -0.12), (1.25 * x, 0.02), (1.15 * x, 0.1), (0.85 * x, 0), (0, -0.05)]
        self.paint(outline(smooth(lip)) - (0, -y), colour)

    def mouth(self):
        full = mix(0.05, 0.078 - 0.042 * self.masculine, self.growth) * self.shape.lips * (1 - 0.5 * self.wear)
        redness = mix(0.38, 0.62 - 0.42 * self.masculine, self.growth) * (1 - 0.35 * self.wear)
        red, (x, y), middle = mix(self.skin, (190, 62, 70), redness), self.corner, self.corner[1] + 0.09 * self.smile
        parting = ACROSS * (x, 0) + (0, y) + ARCH * (middle - y)
        bow = smooth([(x, y), (0.3 * x, middle - full), (0, middle - 0.7 * full)])
        self.paint([*outline(bow), *parting], red * 0.92, 0.03)
        gap = ARCH * 0.17 * max(0.0, self.smile - 0.4)
        self.paint([*parting, *(parting + gap + ARCH**0.5 * 1.15 * full)[::-1]], red, 0.03)
        self.paint([*parting, *(parting + gap)[::-1]], (92, 34, 38), 0.03)
        if self.age > 1.2 and self.smile > 0.45:
            self.paint([*parting, *(parting + 0.7 * gap)[::-1]], (248, 244, 234), 0.03)

    def eyes(self):
        wide, tall, iris = mix(np.array((0.175, 0.125, 0.104)), (0.14, 0.078, 0.075), self.growth) * self.shape.eye_size
        tall *= 1 - 0.3 * self.wear - 0.15 * self.smile
        lash = mix(0.03, 0.055 - 0.03 * self.masculine, self.growth)
        colours = [mix(self.person.eye_colour, (150, 150, 150), 0.3 * self.wear), (20, 16, 16)]
        for side in (-1, 1):
            centre = self.eye * (side, 1)
            upper, lower = (ACROSS * (wide, 0) + centre + arch for arch in (-(ARCH**0.75) * tall, ARCH * 0.75 * tall))
            self.paint([*(upper - (0, 0.035 + 0.02 * self.wear)), *(lower[::-1] - (0, -0.02))], self.shaded(0.16))
            self.paint([*upper, *lower[::-1]], mix(np.array((250, 248, 245)), (226, 208, 184), 0.8 * self.wear))
            discs = CIRCLE * np.reshape((iris, iris / 2), (2, 1, 1)) + centre - (0, 0.01)
            discs[..., 1] = np.clip(discs[..., 1], *(np.interp(discs[..., 0], *lid.T) for lid in (upper, lower)))
            self.paint(discs, colours)  # clipped, for the lids cover part of them
            self.paint(CIRCLE * iris * 0.22 + centre - (0.025, 0.035), (255, 255, 255))
            self.paint([*(upper - (0, lash)), *(upper[::-1] - (0, -0.006))], self.shaded(1) * 0.35)
            self.stroke([[lower[1], centre - (0, -1.5 * tall), lower[-2]]], 0.016, self.shaded(0.8))

    def brows(self):
        x, y = self.eye[0], self.eye[1] - mix(0.25, 0.225 - 0.05 * self.masculine, self.growth)
        thick = mix(0.04, 0.022 + 0.064 * self.masculine, self.growth) * self.shape.brow
        arch = (x - 0.15, y + 0.02), (x + 0.04, y - 0.11 + 0.06 * self.masculine), (x + 0.19, y + 0.035)
        self.stroke(both_sides([arch]), thick, mix(self.hair * 0.8, self.skin, 0.55 - 0.45 * self.growth))

    def front_hair(self):
        """The cap of hair over the skull, down to a hairline that recedes with age and that a fringe lowers."""
        style, width, recede, grown = self.person.hair_style, self.width, self.recede, self.age > 2
        volume, side = STYLES[style] * self.shape.hair * self.cover, 0.3 if style in STYLE_LENGTHS and grown else -0.05
        skull = np.roll(self.head, len(self.head) // 2, axis=0)  # from the chin over the image's left to the top
        skull = skull[skull[:, 1] < side]
        outer = skull + (skull - (0, -0.2)) * volume * np.where(skull[:, 1:] < -0.6, 1 - recede * 0.8, 1)
        line = mix(-0.62, -0.36, float(self.person.fringe and style != "cropped" and grown) * (1 - recede))
        corner = mix(0.66, 0.58, recede), mix(line + 0.06, -0.93, recede * 0.9)
        temple = mix(0.86, 0.93, recede), -0.3 - 0.15 * recede
        right = np.array([corner, temple, (mix(0.96, 1, recede), side)]) * (width, 1)
        part = self.person.parting * 0.4 * width, mix(line - 0.05, -1.0, recede**1.3)
        hairline = smooth([*(right[::-1] * (-1, 1)), part, *right])
        self.paint([*outer, *hairline[::-1]], mix(self.skin, self.hair, self.cover))
        along = self.detail.random(50)
        starts, ends = (path[(along * (len(path) - 1)).astype(int)] for path in (outer, hairline))
        if style == "curly" and grown:
            curls = mix(starts, ends, self.detail.uniform(-0.1, 0.9, (50, 1)))
            self.paint(curls[:, None] + CIRCLE * 0.085, self.strands(50))
        else:
            middles = (starts + ends) / 2 + self.detail.normal(0, 0.03, (50, 2))
            self.stroke(np.stack([starts, middles, ends], axis=1), 0.018, self.strands(50))

    def glasses(self):
        (x, y), width, colour = self.eye, max(1, round(0.03 * self.scale)), (40, 36, 40)
        for rim in self.project(both_sides([CIRCLE * (0.24, 0.19) + (x, y + 0.02)]), 0.1):
            self.draw.line(rim[[*range(20), 0, 1]].ravel().tolist(), fill=colour, width=width, joint="curve")
        temple = (x + 0.22, y), (x + 0.3, y - 0.01), (self.width * 0.94, y + 0.02)
        self.stroke([[(x - 0.25, y), (0, y - 0.06), (0.25 - x, y)], *both_sides([temple])], 0.045, colour, 0.05)

    def lighting(self) -> np.ndarray:
        """Factors [size, size, 3]: the light on the scene, and the soft tints that flat polygons cannot give."""
        spots = [  # centre, radii, loss of red, loss of green and blue
            (self.width * 0.6, self.nose_y + 0.05, 0.24, 0.18, 0, 0.13 - 0.07 * self.growth),  # blush
            (self.eye[0], self.eye[1] - 0.03, 0.22, 0.16, 0.03 + 0.08 * self.wear, 0.04 + 0.1 * self.wear),
            (self.width * 0.75, 0.42, 0.14, 0.2, 0.16 * self.wear, 0.17 * self.wear),  # hollow cheeks
            (0, self.nose_y + 0.11, 0.14, 0.06, 0.05, 0.06),
            (0, 1.16, 0.5, 0.12, 0.15, 0.15),  # the chin's shadow; like all in the middle, it counts twice
        ]
        spots = np.concatenate([spots, np.array(spots) * (-1, 1, 1, 1, 1, 1)])
        grid = (np.arange(48) + 0.5) * (self.image.width / 48)
        offset = (grid - self.project(spots[:, :2])[..., None]) / self.scale  # [spots, 2, 48]
        across, down = np.moveaxis(np.exp(-((offset / spots[:, 2:4, None]) ** 2)), 1, 0)
        losses = [(down * loss[:, None]).T @ across for loss in spots[:, [4, 5, 5]].T]  # 3 times [48, 48]
        slope = np.clip((grid - self.centre[:, None]) / self.scale, -1.2, 1.2) * self.light[:, None] * 0.22  # [2, 48]
        factors = (1 - np.stack(losses, axis=-1)) * (1 + slope[0][:, None] + slope[1][:, None, None])
        small = Image.fromarray(np.clip(factors * self.tint * 160, 0, 255).astype(np.uint8))
        return np.asarray(small.resize((self.size, self.size), Image.Resampling.BILINEAR), np.float32) / 160

    def truth(self) -> FaceTruth:
        points = [self.eye * (-1, 1), self.eye, (0, self.nose_y), self.corner * (-1, 1), self.corner]
        landmarks = self.project(points, np.array((0, 0, 0.15, 0.03, 0.03))) / SUPERSAMPLING
        head = self.project(self.head) / SUPERSAMPLING
        box = np.concatenate([head.min(axis=0), head.max(axis=0)]).clip(0, self.size)
        return FaceTruth(np.float32(box), np.float32(landmarks), self.smile, float(np.degrees(self.yaw)))


def background(rng: Generator, size: int) -> Image.Image:
    """Blurred clutter on a gradient, drawn small and enlarged."""
    base = rng.uniform(60, 200) + rng.normal(0, 12, 3)
    corners = np.clip(base + rng.normal(0, 13, (2, 2, 3)), 0, 255)
    image = Image.fromarray(corners.astype(np.uint8)).resize((48, 48), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    for x, y, width, height in rng.integers((-8, -8, 6, 6), (48, 48, 28, 36), (rng.integers(6), 4)).tolist():
        colour = np.clip(base + rng.normal(0, 26, 3), 0, 255).astype(int)
        draw.rounded_rectangle((x, y, x + width, y + height), rng.uniform(0, 14), tuple(colour.tolist()))
    return image.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 2))).resize((size, size), Image.Resampling.BILINEAR)


def render_face(person: Person, age_years: float, rng: Generator, size: int = 256) -> tuple[Image.Image, FaceTruth]:
    """Draws a picture of a person at an age: RGB, `size` x `size` pixels, and what is known about it.

    `rng` draws what differs between pictures of one person: pose, expression, light, background, clothes, glasses, blur
    and noise. Equal arguments give equal pixels. Raises ValueError unless 0 <= age_years <= 120 and size >= 16.
    """
    if not 0 <= age_years <= 120:
        raise ValueError(f"age_years must lie between 0 and 120, but is {age_years}")
    if size < 16:
        raise ValueError(f"size must be at least 16 pixels, but is {size}")
    face = Face(person, float(age_years), rng, size)
    features = [face.back_hair, face.body, face.skull, face.spots, face.wrinkles, face.nose, face.beard, face.mouth]
    features += [face.eyes, face.brows, face.front_hair, *([face.glasses] if face.has_glasses else [])]
    for draw_feature in features:
        draw_feature()
    image = face.image.reduce(SUPERSAMPLING).filter(ImageFilter.BoxBlur(size / 256 * (rng.random() < 0.3)))
    pixels = np.asarray(image, np.float32) * face.lighting()
    pixels += rng.uniform(0.5, 4) * rng.standard_normal((size, size, 1), np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), face.truth()
