"""Draw the frames of the mini kitchen.

Each segment has a sprite, a moving object: its shape is the noun, its motion the verb. The segments
and the seeded random numbers of both levels are made with the functions here, too.

Lengths and positions are in frame heights, so that any frame size shows the same scene.
"""

import colorsys
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# The noise of the camera is below this number of grey levels.
NOISE = 11
# The camera trembles by up to this number of pixels in each direction.
SHAKE = 1
# A sprite is painted in a square that reaches this number of radii from its centre to each side.
REACH = 1.5
# Pixels closer to the outline than this, in radii, are darkened by this factor: the rim.
RIM, RIM_SHADE = 0.25, 0.6
# Times are rounded, so a time that is closer than this to the start of a frame counts as equal to
# it. The unit is the time from frame to frame.
TIME_TOLERANCE = 1e-6


# The last segment ends at least this time, in seconds, before the video does.
MARGIN = 0.05


@dataclass(frozen=True)
class Action:
    """A segment: [start, stop) in seconds from the first frame, with at most two decimals."""

    narration_id: str
    start: float
    stop: float
    verb: int
    noun: int


def chance(seed: int, *names: str) -> np.random.Generator:
    """Make a random generator that is independent of all others, by a seed and names."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


@dataclass(frozen=True)
class Sprite:
    """The moving object of a segment, visible in frames shown in [start, stop).

    Attributes:
        action: The segment. Its verb decides the motion, its noun the shape.
        centre: (x, y) from the middle of the frame, in frame heights.
        radius: Half the size, in frame heights.
        period: Seconds of one repetition of the motion.
        phase: Start of the motion within its period, in radians.
        colour: (hue, saturation, value), 0 to 1 each.
        directed: Whether the motion is of the hard level: it goes one way, once, over the segment.
    """

    action: Action
    centre: tuple[float, float]
    radius: float
    period: float
    phase: float
    colour: tuple[float, float, float]
    directed: bool

    def place(self, seconds: float) -> tuple[float, float, float]:
        """Return the offset from the centre and the scale, (dx, dy, scale), at a time of the video.

        A motion of the easy level repeats. A directed motion goes once from its start to its end
        over the segment, and the repeating part only makes it tremble.
        """
        passed, verb = seconds - self.action.start, self.action.verb
        phase_angle = 2 * math.pi * passed / self.period + self.phase
        if not self.directed:
            return MOTIONS[verb](phase_angle)
        progress = passed / (self.action.stop - self.action.start)
        return DIRECTED[verb](min(max(progress, 0.0), 1.0), phase_angle)

    def visible(self, frame: int, fps: float) -> bool:
        """Whether frame number `frame`, shown at [frame, frame + 1) / fps, shows the segment."""
        first, last = self.action.start * fps, self.action.stop * fps
        return first < frame + 1 - TIME_TOLERANCE and frame < last - TIME_TOLERANCE


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
    """Make the sprite of a segment, with random values for all but its shape and motion.

    Args:
        action: The segment.
        rng: Source of the random values.
        hue: Largest distance from the noun's hue, which is 0 to 1.
        reach: Largest distances (x, y) from the middle of the frame.
        radius: Smallest and largest radius.
        period: Shortest and longest period, in seconds.
        bright: Least saturation and value of the colour.
        directed: Whether the motion is of the hard level, as in `Sprite`.
    """
    # The order of the random values below decides the frames of a seed, so it must stay.
    hue_offset = rng.uniform(-hue, hue)
    reach_x, reach_y = reach
    return Sprite(
        action=action,
        centre=(rng.uniform(-reach_x, reach_x), rng.uniform(-reach_y, reach_y)),
        radius=rng.uniform(*radius),
        period=rng.uniform(*period),
        phase=rng.uniform(0, 2 * math.pi),
        colour=(
            (HUES[action.noun] + hue_offset) % 1,
            rng.uniform(bright, 1),
            rng.uniform(bright, 1),
        ),
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
    """Yield the frames of a video, uint8 RGB [height, width, 3].

    Without a visible sprite, a frame is a still background with camera tremble and noise.

    Args:
        sprites: The objects.
        frames: Number of frames.
        fps: Frames per second.
        size: (width, height) in pixels.
        rng: Source of the random values.
        look: The background; None draws a random one.
    """
    width, height = size
    # The camera moves to the right by `swing` pixels and back, over tens of seconds. So the
    # background is larger than the frame.
    swing = height // 3
    background = _background(width + swing + 2 * SHAKE, height + 2 * SHAKE, height, rng, look)
    # Each frame gets its noise from another place in one large field, which is faster than to
    # draw new noise.
    noise = rng.integers(0, NOISE, (2 * height, 2 * width, 1), np.uint8)
    shakes = rng.integers(0, 2 * SHAKE + 1, (frames, 2)).tolist()
    noise_windows = rng.integers(0, (height, width), (frames, 2)).tolist()
    swing_period = rng.uniform(20, 30)
    for frame, (shake_x, y), (top, left) in zip(range(frames), shakes, noise_windows, strict=True):
        seconds = frame / fps
        x = int(swing * (0.5 - 0.5 * math.cos(2 * math.pi * seconds / swing_period))) + shake_x
        pixels = background[y : y + height, x : x + width]
        pixels = pixels + noise[top : top + height, left : left + width]
        for sprite in sprites:
            if sprite.visible(frame, fps):
                _paint(pixels, sprite, seconds)
        yield pixels


def _background(
    width: int, height: int, frame_height: int, rng: np.random.Generator, look: Look | None
) -> np.ndarray:
    """Draw a dull, smooth texture, a sum of random waves, as uint8 [height, width, 3].

    It is so dark that no pixel exceeds 255 with the noise.

    Args:
        width: Width of the texture in pixels.
        height: Height of the texture in pixels.
        frame_height: Height in pixels of the frames that show a part of the texture. The waves
            are in this unit.
        rng: Source of the random values.
        look: Colour and contrast; None draws a random colour.
    """
    y, x = np.mgrid[:height, :width][..., None] / frame_height
    directions = rng.uniform(0, 2 * math.pi, 8)
    waves = 2 * math.pi * rng.uniform(0.6, 5.0, 8)
    phases = rng.uniform(0, 2 * math.pi, 8)
    texture = np.sin(waves * (x * np.cos(directions) + y * np.sin(directions)) + phases).sum(-1)
    tint = rng.uniform(80, 140) + rng.uniform(-18, 18, 3)
    contrast = 5.0
    if look is not None:
        tint, contrast = np.array(look.tint), look.contrast
    return np.clip(tint + contrast * texture[..., None], 10, 240 - NOISE).astype(np.uint8)


def _paint(pixels: np.ndarray, sprite: Sprite, seconds: float) -> None:
    """Paint a sprite, as it is at this time, over the pixels of a frame, in place."""
    height, width, _ = pixels.shape
    centre_x, centre_y = sprite.centre
    dx, dy, scale = sprite.place(seconds)
    # The centre of the sprite and its radius are in frame heights, from the top left corner on.
    x = width / height / 2 + centre_x + dx
    y = 0.5 + centre_y + dy
    radius = sprite.radius * scale
    # The sprite is painted in a square that reaches REACH radii from its centre.
    reach = np.array((-REACH, REACH)) * radius
    left, right = np.rint((x + reach) * height).clip(0, width).astype(int)
    top, bottom = np.rint((y + reach) * height).clip(0, height).astype(int)
    # `u` and `v` are the coordinates of the pixels from the centre of the sprite, in its radii.
    u = ((np.arange(left, right, dtype=np.float32) + 0.5) / height - x)[None, :] / radius
    v = ((np.arange(top, bottom, dtype=np.float32) + 0.5) / height - y)[:, None] / radius
    # The depth is the distance of a pixel inside the outline, in radii; negative outside.
    depth = SHAPES[sprite.action.noun](u, v)
    # A pixel on the outline is covered by the sprite in part, so that edges are smooth.
    cover = np.clip(depth * radius * height + 0.5, 0, 1)[..., None]
    colour = 255 * np.array(colorsys.hsv_to_rgb(*sprite.colour), np.float32)
    shaded = colour * np.where(depth > RIM, 1, RIM_SHADE).astype(np.float32)[..., None]
    region = pixels[top:bottom, left:right]
    region[:] = region + cover * (shaded - region)


# The motion of each verb class: phase angle in radians -> (dx, dy, scale). Each looks the same when
# played backwards, except the circle, whose direction does not matter. Take moves from side to
# side, wash up and down, pour nearer and farther, and mix round and round.
MOTIONS = {
    0: lambda angle: (0.34 * math.sin(angle), 0.0, 1.0),
    2: lambda angle: (0.0, 0.26 * math.sin(angle), 1.0),
    9: lambda angle: (0.0, 0.0, 1.0 + 0.45 * math.sin(angle)),
    10: lambda angle: (0.24 * math.cos(angle), 0.22 * math.sin(angle), 1.0),
}


# The motion of each verb class of the hard level: (progress in the segment from 0 to 1, phase angle
# of the tremble in radians) -> (dx, dy, scale). The first two are one motion, forwards and
# backwards: take moves up and put down. So are the last two: open comes nearer and close goes
# farther.
DIRECTED = {
    0: lambda progress, angle: (0.0, 0.2 - 0.4 * progress + 0.07 * math.sin(angle), 1.0),
    1: lambda progress, angle: (0.0, -0.2 + 0.4 * progress + 0.07 * math.sin(angle), 1.0),
    3: lambda progress, angle: (0.0, 0.0, 0.7 + 0.8 * progress + 0.14 * math.sin(angle)),
    4: lambda progress, angle: (0.0, 0.0, 1.5 - 0.8 * progress + 0.14 * math.sin(angle)),
}


# The functions below are the shapes of the noun classes. They take the coordinates of pixels from
# the centre of the sprite, in radii: `u` [1, n] to the right and `v` [m, 1] downwards. They return
# the approximate depth inside the outline in radii, negative outside. The smaller of two depths
# intersects two shapes, the larger one unites them.
def _spoon(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Depth inside an oval head with a straight handle below it."""
    head = 0.78 - np.hypot(u, 0.9 * (v + 0.5))
    handle = np.minimum(0.28 - abs(u), 0.7 - abs(v - 0.6))
    return np.maximum(head, handle)


def _plate(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Depth inside a circle."""
    return 1.0 - np.hypot(u, v)


def _pan(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Depth inside a square base with a handle to its right."""
    base = np.minimum(0.8 - abs(u + 0.25), 0.8 - abs(v))
    handle = np.minimum(0.45 - abs(u - 0.95), 0.2 - abs(v))
    return np.maximum(base, handle)


def _bowl(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Depth inside the lower part of a circle, which a straight rim cuts off."""
    return np.minimum(1.15 - np.hypot(u, v + 0.35), v + 0.4)


def _knife(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Depth inside a long, flat rectangle."""
    return np.minimum(1.2 - abs(u), 0.3 - abs(v))


def _lid(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Depth inside a half circle with a round knob on top."""
    dome = np.minimum(1.0 - np.hypot(u, v - 0.3), 0.3 - v)
    knob = 0.25 - np.hypot(u, v + 0.8)
    return np.maximum(dome, knob)


SHAPES = {1: _spoon, 2: _plate, 4: _knife, 5: _pan, 6: _lid, 7: _bowl}
# The mean hue of each noun class: 0 is red, and 1 is red again.
HUES = {1: 0.14, 2: 0.62, 4: 0.8, 5: 0.0, 6: 0.48, 7: 0.36}
