"""Pictures of the mini kitchen: one sprite per segment; its shape is the noun, its motion the verb.

Segments and seeded random numbers of all levels are here too.

Lengths and positions are in picture heights, so that any picture size shows the same scene.
"""

import colorsys
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Card = TypeVar("Card")

# Sensor noise is below this many grey levels.
NOISE = 11
# The camera trembles by up to so many pixels in each direction.
SHAKE = 1


@dataclass(frozen=True)
class Action:
    """One segment, [start, stop) in seconds from the first picture, with at most two decimals."""

    narration_id: str
    start: float
    stop: float
    verb: int
    noun: int


def chance(seed: int, *names: str) -> np.random.Generator:
    """Return an independent random generator for each seed and names."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def deck(rng: np.random.Generator, cards: Sequence[Card]) -> Iterator[Card]:
    """Yield the cards shuffled, again and again: the order is random and counts are balanced."""
    while True:
        for index in rng.permutation(len(cards)):
            yield cards[index]


@dataclass(frozen=True)
class Sprite:
    """The moving object of a segment, visible in pictures shown in [start, stop).

    Attributes:
        action: The segment. Its verb decides the motion, its noun the shape.
        centre: (x, y) from the middle of the picture, in picture heights.
        radius: Half the size, in picture heights.
        period: Seconds of one turn of the motion.
        phase: Of the motion, in radians.
        colour: (hue, saturation, value), 0 to 1 each.
        directed: Whether the motion is one of the hard level, which go one way over the segment.
    """

    action: Action
    centre: tuple[float, float]
    radius: float
    period: float
    phase: float
    colour: tuple[float, float, float]
    directed: bool

    def place(self, seconds: float) -> tuple[float, float, float]:
        """Return (dx, dy, scale) at a time of the video."""
        passed, verb = seconds - self.action.start, self.action.verb
        turn = 2 * math.pi * passed / self.period + self.phase
        if not self.directed:
            return MOTIONS[verb](turn)
        done = passed / (self.action.stop - self.action.start)
        return DIRECTED[verb](min(max(done, 0.0), 1.0), turn)

    def visible(self, frame: int, fps: float) -> bool:
        """Whether picture `frame`, shown in [frame, frame + 1) / fps, shows part of the segment."""
        return self.action.start * fps < frame + 1 - 1e-6 and frame < self.action.stop * fps - 1e-6


@dataclass(frozen=True)
class Look:
    """The background of a video: mean colour (RGB grey levels) and contrast of the pattern."""

    tint: tuple[float, float, float]
    contrast: float


def random_sprite(
    action: Action,
    rng: np.random.Generator,
    *,
    hue: float,
    reach: tuple[float, float],
    radius: tuple[float, float],
    period: tuple[float, float],
    bright: float,
    directed: bool = False,
) -> Sprite:
    """Make the sprite of a segment; everything but shape and motion is drawn from `rng`.

    Args:
        action: The segment.
        rng: Source of the random values.
        hue: Largest distance from the noun's hue.
        reach: Largest distances (x, y) from the middle of the picture.
        radius: Limits of the radius.
        period: Limits of the period.
        bright: Least saturation and value of the colour.
        directed: As of `Sprite`.
    """
    off = rng.uniform(-hue, hue)
    return Sprite(
        action=action,
        centre=(rng.uniform(-reach[0], reach[0]), rng.uniform(-reach[1], reach[1])),
        radius=rng.uniform(*radius),
        period=rng.uniform(*period),
        phase=rng.uniform(0, 2 * math.pi),
        colour=((HUES[action.noun] + off) % 1, rng.uniform(bright, 1), rng.uniform(bright, 1)),
        directed=directed,
    )


def render(
    sprites: Sequence[Sprite],
    frames: int,
    fps: float,
    size: tuple[int, int],
    rng: np.random.Generator,
    look: Look | None = None,
) -> Iterator[np.ndarray]:
    """Yield pictures, uint8 RGB [height, width, 3].

    Without a visible sprite, a picture is a still background with camera tremble and noise.

    Args:
        sprites: The objects.
        frames: How many pictures.
        fps: Pictures per second.
        size: (width, height) in pixels.
        rng: Source of the random values.
        look: The background; None draws a random one.
    """
    width, height = size
    # The camera turns by so many pixels over tens of seconds.
    swing = height // 3
    background = _background(width + swing + 2 * SHAKE, height + 2 * SHAKE, height, rng, look)
    noise = rng.integers(0, NOISE, (2 * height, 2 * width, 1), np.uint8)
    shake = rng.integers(0, 2 * SHAKE + 1, (frames, 2)).tolist()
    grain = rng.integers(0, (height, width), (frames, 2)).tolist()
    turn = rng.uniform(20, 30)
    for frame in range(frames):
        seconds = frame / fps
        x = int(swing * (0.5 - 0.5 * math.cos(2 * math.pi * seconds / turn))) + shake[frame][0]
        y = shake[frame][1]
        top, left = grain[frame]
        picture = background[y : y + height, x : x + width]
        picture = picture + noise[top : top + height, left : left + width]
        for sprite in sprites:
            if sprite.visible(frame, fps):
                _paint(picture, sprite, seconds)
        yield picture


def _background(
    width: int, height: int, unit: int, rng: np.random.Generator, look: Look | None
) -> np.ndarray:
    """Return a dull, smooth texture, a sum of random waves; uint8, bright enough for the noise."""
    y, x = np.mgrid[:height, :width][..., None] / unit
    directions = rng.uniform(0, 2 * math.pi, 8)
    waves = 2 * math.pi * rng.uniform(0.6, 5.0, 8)
    phases = rng.uniform(0, 2 * math.pi, 8)
    texture = np.sin(waves * (x * np.cos(directions) + y * np.sin(directions)) + phases).sum(-1)
    tint = rng.uniform(80, 140) + rng.uniform(-18, 18, 3)
    contrast = 5.0
    if look is not None:
        tint, contrast = np.array(look.tint), look.contrast
    return np.clip(tint + contrast * texture[..., None], 10, 240 - NOISE).astype(np.uint8)


def _paint(picture: np.ndarray, sprite: Sprite, seconds: float) -> None:
    height, width = picture.shape[:2]
    dx, dy, scale = sprite.place(seconds)
    x = width / height / 2 + sprite.centre[0] + dx
    y = 0.5 + sprite.centre[1] + dy
    radius = sprite.radius * scale
    left, right = (_pixel((x + side * 1.5 * radius) * height, width) for side in (-1, 1))
    top, bottom = (_pixel((y + side * 1.5 * radius) * height, height) for side in (-1, 1))
    u = ((np.arange(left, right, dtype=np.float32) + 0.5) / height - x)[None, :] / radius
    v = ((np.arange(top, bottom, dtype=np.float32) + 0.5) / height - y)[:, None] / radius
    depth = SHAPES[sprite.action.noun](u, v)
    cover = np.clip(depth * radius * height + 0.5, 0, 1)[..., None]
    colour = 255 * np.array(colorsys.hsv_to_rgb(*sprite.colour), np.float32)
    inked = colour * np.where(depth > 0.25, 1, 0.6).astype(np.float32)[..., None]
    region = picture[top:bottom, left:right]
    region[:] = region + cover * (inked - region)


def _pixel(value: float, limit: int) -> int:
    return min(max(round(value), 0), limit)


# A verb class has a motion: phase in radians -> (dx, dy, scale). Each looks the same when played
# backwards, except the circle, whose direction does not matter. Take moves from side to side, wash
# up and down, pour nearer and farther, and mix round and round.
MOTIONS = {
    0: lambda a: (0.34 * math.sin(a), 0.0, 1.0),
    2: lambda a: (0.0, 0.26 * math.sin(a), 1.0),
    9: lambda a: (0.0, 0.0, 1.0 + 0.45 * math.sin(a)),
    10: lambda a: (0.24 * math.cos(a), 0.22 * math.sin(a), 1.0),
}


# A verb class of the hard level has a motion: (share of the segment that has passed, tremble in
# radians) -> (dx, dy, scale). Each of the two pairs is one motion, forwards and backwards: take
# moves up and put down, open comes nearer and close goes farther.
DIRECTED = {
    0: lambda done, a: (0.0, 0.2 - 0.4 * done + 0.07 * math.sin(a), 1.0),
    1: lambda done, a: (0.0, -0.2 + 0.4 * done + 0.07 * math.sin(a), 1.0),
    3: lambda done, a: (0.0, 0.0, 0.7 + 0.8 * done + 0.14 * math.sin(a)),
    4: lambda done, a: (0.0, 0.0, 1.5 - 0.8 * done + 0.14 * math.sin(a)),
}


# A noun class has a shape: local coordinates in radii -> approximate depth inside the outline in
# radii, negative outside. `u` is [1, n], `v` is [m, 1].
def _spoon(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    head = 0.78 - np.hypot(u, 0.9 * (v + 0.5))
    handle = np.minimum(0.28 - abs(u), 0.7 - abs(v - 0.6))
    return np.maximum(head, handle)


def _plate(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 1.0 - np.hypot(u, v)


def _pan(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    base = np.minimum(0.8 - abs(u + 0.25), 0.8 - abs(v))
    handle = np.minimum(0.45 - abs(u - 0.95), 0.2 - abs(v))
    return np.maximum(base, handle)


def _bowl(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.minimum(1.15 - np.hypot(u, v + 0.35), v + 0.4)


def _knife(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.minimum(1.2 - abs(u), 0.3 - abs(v))


def _lid(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    dome = np.minimum(1.0 - np.hypot(u, v - 0.3), 0.3 - v)
    return np.maximum(dome, 0.25 - np.hypot(u, v + 0.8))


SHAPES = {1: _spoon, 2: _plate, 4: _knife, 5: _pan, 6: _lid, 7: _bowl}
# A hue of 0 is red.
HUES = {1: 0.14, 2: 0.62, 4: 0.8, 5: 0.0, 6: 0.48, 7: 0.36}
