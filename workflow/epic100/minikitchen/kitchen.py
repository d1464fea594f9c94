"""The mini kitchen: a small data set like EPIC-100, made from the rows of a video sheet.

A row and a seed determine the segments of a video; the official CSVs and the frames are made
from them. Coloured shapes stand for nouns and motions for verbs, with the official class ids. The
difficulties of reading EPIC-100 are included: three file rates and two annotation clocks,
overlapping segments, segments shorter than a clip, a pair that is not in train, and damaged files.
"""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd

from epic100.base.atomic import atomic_path
from epic100.base.text_table import write_table
from epic100.minikitchen import hard
from epic100.minikitchen.damage import DAMAGES
from epic100.minikitchen.drawing import MARGIN, Action, Sprite, chance, random_sprite, render
from epic100.video.sheet import Video, annotation_rate

VERBS = {0: "take", 2: "wash", 9: "pour", 10: "mix"}
NOUNS = {1: "spoon", 2: "plate", 5: "pan", 7: "bowl"}
# Each verb has two nouns and each noun two verbs, so that neither alone determines the action.
PAIRS = ((0, 1), (0, 2), (2, 2), (2, 5), (9, 5), (9, 7), (10, 7), (10, 1))
# This pair is only in val: train has its verb and its noun, but not together.
UNSEEN_PAIR = (2, 7)

COLUMNS = (
    "narration_id",
    "participant_id",
    "video_id",
    "narration_timestamp",
    "start_timestamp",
    "stop_timestamp",
    "start_frame",
    "stop_frame",
    "narration",
    "verb",
    "verb_class",
    "noun",
    "noun_class",
    "all_nouns",
    "all_noun_classes",
)


def write_annotations(
    videos: Iterable[Video], folder: str | os.PathLike, seed: int, level: str = "easy"
) -> None:
    """Write the six CSVs of EPIC-100 that the workflow reads, under their official names.

    Damaged and missing videos have segments like all others. Each tail file has one class, the
    rarest of train; among equally rare classes, it has the lowest number.

    Args:
        videos: Rows of the video sheet.
        folder: Where to write.
        seed: Determines the segments.
        level: `easy` or `hard` (`minikitchen.hard`).
    """
    rows: dict[str, list[tuple]] = {"train": [], "val": [], "test": []}
    participants: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    for video in videos:
        rows[video.split] += _rows(video, seed, level)
        participants[video.split].add(video.participant_id)
    segments = {
        split: pd.DataFrame(rows_of_split, columns=COLUMNS).sort_values("narration_id")
        for split, rows_of_split in rows.items()
    }
    train = segments["train"]
    unseen = sorted(participants["val"] - participants["train"])
    tables = {
        "train": train,
        "validation": segments["val"],
        # The official test CSV ends after `stop_frame`.
        "test_timestamps": segments["test"].loc[:, :"stop_frame"],
        "tail_verbs": _rarest(train, "verb"),
        "tail_nouns": _rarest(train, "noun"),
        "unseen_participant_ids_validation": pd.DataFrame({"participant_id": unseen}),
    }
    for name, table in tables.items():
        path = Path(folder, f"EPIC_100_{name}.csv")
        write_table(path, list(table.columns), table.itertuples(index=False), ",")


def _rows(video: Video, seed: int, level: str) -> Iterator[tuple]:
    """Yield the lines of a video in the official CSV, with all columns of `COLUMNS`."""
    rate = int(annotation_rate(video.video_id))
    rng = chance(seed, video.video_id, "narration")
    if level == "hard":
        actions, verbs, nouns = hard.schedule(video, seed), hard.VERBS, hard.NOUNS
    else:
        actions, verbs, nouns = schedule(video, seed), VERBS, NOUNS
    for index, action in enumerate(actions):
        verb, noun = verbs[action.verb], nouns[action.noun]
        narrated_at = _timestamp(max(0.0, action.start + rng.uniform(-0.5, 0.5)), 3)
        if video.split == "val" and index == 1:
            # In the official val CSV, 70 rows have no timestamp of the narration either.
            narrated_at = ""
        # Integers of hundredths of a second: a product of floats can be just below an integer.
        first = max(1, round(action.start * 100) * rate // 100)
        last = max(1, round(action.stop * 100) * rate // 100)
        yield (
            action.narration_id,
            video.participant_id,
            video.video_id,
            narrated_at,
            _timestamp(action.start, 2),
            _timestamp(action.stop, 2),
            first,
            last,
            f"{verb} {noun}",
            verb,
            action.verb,
            noun,
            action.noun,
            f"['{noun}']",
            f"[{action.noun}]",
        )


def _timestamp(seconds: float, digits: int) -> str:
    """Format seconds with `digits` decimals: `00:01:02.50`."""
    minutes, seconds = divmod(round(seconds, digits), 60)
    hours, minutes = divmod(int(minutes), 60)
    # The width counts two digits, the point and the decimals.
    return f"{hours:02d}:{minutes:02d}:{seconds:0{digits + 3}.{digits}f}"


def _rarest(train: pd.DataFrame, task: str) -> pd.DataFrame:
    """Make the table of the rarest class of train for a task, `verb` or `noun`."""
    counts = train.groupby(f"{task}_class").size()
    return pd.DataFrame({task: counts.nsmallest(1).index})


# A clip has 13 frames, and the shortest segments have only 10.
CLIP_FRAMES, TINY = 13, 10
# The sprites of the easy level are made with these arguments of `random_sprite`.
FORM: dict[str, Any] = {"hue": 0.025, "reach": (0.12, 0.07), "radius": (0.25, 0.32), "bright": 0.75}
# The period of a motion is in one of these ranges of seconds. A clip of 13x6 frames (1.3 s at
# 59.94 fps) then shows at least two periods; at 29.97 fps (5 frames per second) each has two
# samples. With slower motions a small X3D needed more epochs. The quick motions are for segments
# shorter than a clip, which show half a period in 0.2 s.
PERIOD, QUICK = (0.45, 0.65), (0.32, 0.4)


def write_video(
    video: Video,
    path: str | os.PathLike,
    seed: int,
    damage: str | None = None,
    size: tuple[int, int] = (160, 90),
    level: str = "easy",
) -> None:
    """Render a video to an MP4 file (H.264, a key frame every 250), then damage it.

    The same arguments give the same bytes on the same machine.

    Args:
        video: Row of the video sheet.
        path: The file to write.
        seed: Determines segments, frames and damage.
        damage: One of `damage.DAMAGES`, or None. A missing video is simply not written.
        size: (width, height) in pixels, even numbers.
        level: `easy` or `hard` (`minikitchen.hard`).
    """
    # What the frames show.
    rng = chance(seed, video.video_id, "pictures")
    sprites = _sprites(video, seed, level, rng)
    look = hard.look(video, seed) if level == "hard" else None
    frames = render(sprites, round(video.duration * video.fps), video.fps, size, rng, look)

    # A truncated file can be read up to the cut only if its index is at the start.
    options = {"movflags": "faststart"} if damage == "truncated" else {}
    with atomic_path(path) as temporary:
        with av.open(temporary, "w", format="mp4", options=options) as container:
            # The rate 59.94005... of a sheet becomes 60000/1001.
            rate = Fraction(video.fps).limit_denominator(1001)
            stream = container.add_stream("libx264", rate=rate)
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            stream.options = ENCODING
            for pixels in frames:
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                container.mux(stream.encode(frame))
            # Without a frame, the encoder gives the packets that it still holds.
            container.mux(stream.encode(None))
        if damage is not None:
            DAMAGES[damage](temporary, seed)


# One thread and x264's SSE2 code give the same bytes every time, in a quarter of the time of its
# plain C, which another type of machine takes. With AVX-512, 7 of 10 processes gave other bytes
# (they depend on the memory next to the frame). `sc_threshold` prevents extra key frames where an
# object appears.
ENCODING: dict[str, Any] = {
    "preset": "veryfast",
    "crf": "18",
    "threads": "1",
    "g": "250",
    "bf": "3",
    "sc_threshold": "0",
    "x264-params": "asm=SSE2",
}


def _sprites(video: Video, seed: int, level: str, rng: np.random.Generator) -> list[Sprite]:
    """Make the sprites of a video, one for each segment."""
    if level == "hard":
        return [random_sprite(action, rng, **hard.FORM) for action in hard.schedule(video, seed)]
    sprites = []
    for action in schedule(video, seed):
        is_short = action.stop - action.start < CLIP_FRAMES / video.fps
        sprites.append(random_sprite(action, rng, **FORM, period=QUICK if is_short else PERIOD))
    return sprites


# Each of ten segments has its length in one of these ranges of seconds. A clip of 13x6 frames (78)
# is 1.3 s at 59.94 fps.
LENGTHS = ((1.0, 1.28),) * 4 + ((1.3, 2.0),) * 3 + ((2.0, 3.0),) * 3
# Three of ten segments overlap with the next one.
OVERLAPS = (True,) * 3 + (False,) * 7


def schedule(video: Video, seed: int) -> list[Action]:
    """Make the random segments of a video, in order of time, from its row and the seed alone.

    Videos of the extension (`P02_101`) have one segment of less than 13 frames. Videos of the
    extension in val have two such segments and one of `UNSEEN_PAIR`, and their last segment ends
    0.01 s after the video.
    """
    rng = chance(seed, video.video_id, "schedule")
    pairs, lengths, overlaps = _pairs(rng), _deck(rng, LENGTHS), _deck(rng, OVERLAPS)
    # The numbers of segments with few frames, and of segments with the pair that is not in train.
    tiny, unseen = set[int](), set[int]()
    # Only the videos of the extension are annotated at 50 frames a second.
    is_extension = annotation_rate(video.video_id) == 50
    if is_extension and video.split == "val":
        tiny, unseen = {3, 8}, {2}
    elif is_extension:
        tiny = {5}

    actions: list[Action] = []
    start = float(rng.choice((0.0, round(rng.uniform(0.2, 0.8), 2))))
    id_number = 0
    for index in itertools.count():
        # The segment, unless the video ends before it. All times are in seconds.
        length = rng.uniform(*next(lengths))
        if index in tiny:
            length = TINY / video.fps
        stop = round(start + length, 2)
        if stop > video.duration - MARGIN:
            break
        verb, noun = UNSEEN_PAIR if index in unseen else next(pairs)
        actions.append(Action(f"{video.video_id}_{id_number}", start, stop, verb, noun))
        # The start of the next one. The few segments above must be visible alone, without the ones
        # before and after.
        must_be_alone = not (tiny | unseen).isdisjoint({index, index + 1})
        overlaps_next = next(overlaps) and not must_be_alone
        gap = -rng.uniform(0.1, 0.3) if overlaps_next else rng.uniform(0.1, 0.9)
        start = round(stop + gap, 2)
        # The official ids of a video have gaps, too.
        id_number += 1 if rng.uniform() < 0.9 else 2

    if unseen and actions:
        # The duration is cut to hundredths of a second, then one hundredth is added.
        stop = round(int(video.duration * 100) / 100 + 0.01, 2)
        actions[-1] = replace(actions[-1], stop=stop)
    return actions


def _deck(rng: np.random.Generator, cards: Sequence[Any]) -> Iterator[Any]:
    """Yield all cards in random order, then all again in another order, without end.

    So no card comes much more often than another.
    """
    while True:
        yield from rng.permutation(cards)


def _pairs(rng: np.random.Generator) -> Iterator[Sequence[int]]:
    """Yield all pairs in random order, again and again, with different nouns one after another.

    Only if all remaining pairs of a round have the last noun, it comes twice in a row.
    """
    previous_noun = None
    while True:
        remaining = rng.permutation(PAIRS).tolist()
        while remaining:
            other_nouns = (pair for pair in remaining if pair[1] != previous_noun)
            pair = next(other_nouns, remaining[0])
            remaining.remove(pair)
            previous_noun = pair[1]
            yield pair
