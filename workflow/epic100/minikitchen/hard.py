"""The hard level of the mini kitchen: difficulties of EPIC-100 for a training on two CPU cores.

- Verbs differ only in direction: `take` goes up and `put` goes down, `open` grows and `close`
  shrinks. The motion takes the complete segment, and a tremble hides it from short clips.
- Nouns are small and anywhere in the frame; a fifth of them are outside its centre square.
- Lengths follow EPIC-100: log-normal with the mean and spread of the val segments.
- Pairs have a long tail: each is 0.8 times as frequent as the one before.
- A tenth of the val segments have pairs that are not in train, but their verbs and nouns are.
- Every participant's kitchen has its own light and wallpaper; the sheet gives the file rates.
"""

from typing import Any

import numpy as np

from epic100.minikitchen.drawing import MARGIN, Action, Look, chance
from epic100.video.sheet import Video

VERBS = {0: "take", 1: "put", 3: "open", 4: "close"}
NOUNS = {1: "spoon", 2: "plate", 4: "knife", 5: "pan", 6: "lid", 7: "bowl"}
# These pairs of verb and noun are not in train, but their verbs and nouns are.
UNSEEN_PAIRS = ((0, 7), (1, 1), (3, 4), (4, 2))
# These are the pairs of train, the most frequent first.
PAIRS = (
    (0, 1),
    (1, 2),
    (3, 5),
    (4, 6),
    (0, 4),
    (1, 7),
    (3, 6),
    (4, 5),
    (0, 2),
    (1, 4),
    (3, 7),
    (4, 1),
    (0, 5),
    (1, 6),
    (3, 2),
    (4, 7),
    (0, 6),
    (1, 5),
    (3, 1),
    (4, 4),
)
# The frequency of a pair, divided by the frequency of the pair before it.
FREQUENCY_RATIO = 0.8
# This share of the segments of val and test has a pair of `UNSEEN_PAIRS`.
UNSEEN_SHARE = 0.1
# The logarithm of the 9,668 val segments' lengths in seconds has this mean and this spread. Drawn
# lengths outside the limits are set to them.
LOG_LENGTH, LOG_SPREAD = 0.83, 0.87
SHORTEST, LONGEST = 0.5, 8.0
# The sprites of the hard level are made with these arguments of `random_sprite`.
FORM: dict[str, Any] = {
    "hue": 0.03,
    "reach": (0.62, 0.12),
    "radius": (0.13, 0.18),
    "period": (0.5, 0.9),
    "bright": 0.6,
    "directed": True,
}
# The wall of a kitchen has about one of these colours (RGB, 0 to 255).
TINTS = ((70, 95, 130), (135, 105, 75), (85, 125, 85), (120, 85, 120), (100, 100, 100))


def schedule(video: Video, seed: int) -> list[Action]:
    """Draw the segments of a video in order of time; they depend only on the row and the seed."""
    rng = chance(seed, video.video_id, "hard schedule")
    frequencies = FREQUENCY_RATIO ** np.arange(len(PAIRS))
    actions: list[Action] = []
    start = round(float(rng.uniform(0.1, 0.5)), 2)
    while True:
        length = float(np.clip(rng.lognormal(LOG_LENGTH, LOG_SPREAD), SHORTEST, LONGEST))
        stop = round(start + length, 2)
        if stop > video.duration - MARGIN:
            return actions
        pair = PAIRS[rng.choice(len(PAIRS), p=frequencies / frequencies.sum())]
        if video.split != "train" and rng.uniform() < UNSEEN_SHARE:
            pair = UNSEEN_PAIRS[rng.choice(len(UNSEEN_PAIRS))]
        actions.append(Action(f"{video.video_id}_{len(actions)}", start, stop, *pair))
        start = round(stop + float(rng.uniform(0.1, 0.4)), 2)


def look(video: Video, seed: int) -> Look:
    """Draw the wall colour and contrast of a participant's kitchen, the same in all its videos."""
    rng = chance(seed, video.participant_id, "look")
    red, green, blue = np.array(TINTS[rng.choice(len(TINTS))]) + rng.uniform(-15, 15, 3)
    return Look((float(red), float(green), float(blue)), float(rng.uniform(6, 10)))
