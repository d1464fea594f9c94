"""The mini kitchen: a small EPIC-100 look-alike, made from the rows of a video sheet.

A row and a seed give one schedule of segments; the schedule gives the official CSVs and the
pictures. Coloured shapes stand for nouns and motions for verbs, under the official class ids. What
makes EPIC-100 hard to read is here too: three file rates under two annotation clocks, segments that
overlap, segments shorter than a clip, a pair that train lacks, and damaged files.
"""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.minikitchen import hard
from epic100.minikitchen.damage import KINDS
from epic100.minikitchen.drawing import Look, Sprite, random_sprite, render
from epic100.minikitchen.timeline import Action, chance, deck
from epic100.segments.annotations import annotation_rate
from epic100.video.sheet import Video

VERBS = {0: "take", 2: "wash", 9: "pour", 10: "mix"}
NOUNS = {1: "spoon", 2: "plate", 5: "pan", 7: "bowl"}
# Each verb with two nouns and each noun with two verbs: neither alone tells the action.
PAIRS = ((0, 1), (0, 2), (2, 2), (2, 5), (9, 5), (9, 7), (10, 7), (10, 1))
UNSEEN_PAIR = (2, 7)  # of a verb and a noun that train knows, on val only

# Lengths in seconds of ten segments. 78 frames, a clip of 13x6, are 1.3 s at 59.94 fps.
LENGTHS = ((1.0, 1.28),) * 4 + ((1.3, 2.0),) * 3 + ((2.0, 3.0),) * 3
TINY = 10  # frames of the shortest segments, fewer than a clip's 13
OVERLAPS = (True,) * 3 + (False,) * 7

COLUMNS = (
    "narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp",
    "stop_timestamp", "start_frame", "stop_frame", "narration", "verb", "verb_class", "noun",
    "noun_class", "all_nouns", "all_noun_classes",
)  # fmt: skip
TEST_COLUMNS = COLUMNS[:8]


def schedule(video: Video, seed: int) -> list[Action]:
    """The segments of a video in order of time; a function of the row and the seed alone.

    Videos of the extension (`P02_101`) hold one segment of less than 13 frames; those of its val
    split hold two, and one of `UNSEEN_PAIR`, and their last segment ends 0.01 s after the video.
    """
    rng = chance(seed, video.video_id, "schedule")
    extension = annotation_rate(video.video_id) == 50
    quirky = extension and video.split == "val"
    pairs, lengths, overlaps = _pairs(rng), deck(rng, LENGTHS), deck(rng, OVERLAPS)
    tiny = {3, 8} if quirky else {5} if extension else set()
    unseen = {2} if quirky else set()
    actions: list[Action] = []
    start, number = float(rng.choice((0.0, round(rng.uniform(0.2, 0.8), 2)))), 0
    for index in range(10**6):
        length = rng.uniform(*next(lengths))
        if index in tiny:
            length = TINY / video.fps
        stop = round(start + length, 2)
        if stop > video.duration - 0.05:
            break
        verb, noun = UNSEEN_PAIR if index in unseen else next(pairs)
        actions.append(Action(f"{video.video_id}_{number}", start, stop, verb, noun))
        # These few must be seen well: no overlap on either side of them.
        overlap = next(overlaps) and not (tiny | unseen) & {index, index + 1}
        gap = -rng.uniform(0.1, 0.3) if overlap else rng.uniform(0.1, 0.9)
        start = round(stop + gap, 2)
        number += 1 if rng.uniform() < 0.9 else 2
    if quirky and actions:
        last = actions[-1]
        stop = round(int(video.duration * 100) / 100 + 0.01, 2)
        actions[-1] = Action(last.narration_id, last.start, stop, last.verb, last.noun)
    return actions


def write_annotations(
    videos: Iterable[Video], folder: str | os.PathLike, seed: int, level: str = "easy"
) -> None:
    """Write the six CSVs of EPIC-100 that the workflow reads, under their official names.

    Damaged and missing videos have their segments like any other. The tail files hold one class
    each, the rarest in train.
    """
    folder, videos = Path(folder), list(videos)
    rows: dict[str, list[tuple]] = {"train": [], "val": [], "test": []}
    for video in videos:
        rows[video.split] += _rows(video, seed, level)
    for split in rows.values():
        split.sort(key=lambda row: row[0])
    tails = [_rarest(row[COLUMNS.index(name)] for row in rows["train"])
             for name in ("verb_class", "noun_class")]  # fmt: skip
    seen = {video.participant_id for video in videos if video.split == "train"}
    unseen = {video.participant_id for video in videos if video.split == "val"} - seen
    tables = {
        "train": (COLUMNS, rows["train"]),
        "validation": (COLUMNS, rows["val"]),
        "test_timestamps": (TEST_COLUMNS, [row[: len(TEST_COLUMNS)] for row in rows["test"]]),
        "tail_verbs": (("verb",), [(verb,) for verb in tails[0]]),
        "tail_nouns": (("noun",), [(noun,) for noun in tails[1]]),
        "unseen_participant_ids_validation": (("participant_id",), [(p,) for p in sorted(unseen)]),
    }
    for name, (header, lines) in tables.items():
        with (
            atomic_path(folder / f"EPIC_100_{name}.csv") as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            csv.writer(file, lineterminator="\n").writerows([header, *lines])


def write_video(
    video: Video,
    path: str | os.PathLike,
    seed: int,
    damage: str | None = None,
    size: tuple[int, int] = (160, 90),
    faststart: bool = False,
    level: str = "easy",
) -> None:
    """Render a video's schedule to an MP4 file (H.264, a key frame every 250), then damage it.

    `damage` is one of `damage.KINDS`; `size` is (width, height), even pixels. The index stands at
    the file's end unless `faststart`, or damage `truncated`, puts it first. The same arguments
    give the same bytes on the same machine. Raises EpicError for an unknown damage.
    """
    if damage is not None and damage not in KINDS:
        raise EpicError(
            f"{path}: damage {damage!r} of {video.video_id}; expected one of {', '.join(KINDS)} "
            "(a missing video is simply not written)"
        )
    with atomic_path(path) as temporary:
        _encode(video, temporary, seed, size, faststart or damage == "truncated", level)
        if damage is not None:
            KINDS[damage](temporary, seed)


def _encode(
    video: Video, path: Path, seed: int, size: tuple[int, int], faststart: bool, level: str
) -> None:
    rng = chance(seed, video.video_id, "pictures")
    rate = Fraction(video.fps).limit_denominator(1001)  # 59.94005... -> 60000/1001
    sprites, look = _scene(video, seed, level, rng)
    frames = round(video.duration * video.fps)
    movflags = {"movflags": "faststart"} if faststart else {}
    with av.open(path, "w", format="mp4", options=movflags) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        # One thread and plain C: the same bytes every time. With its AVX-512 code x264 gave other
        # bytes in 7 of 10 processes (they depend on what stands in memory beside the picture).
        # No extra key frames where an object appears.
        stream.options = {"preset": "veryfast", "crf": "18", "threads": "1", "g": "250", "bf": "3",
                          "sc_threshold": "0", "x264-params": "asm=0"}  # fmt: skip
        for picture in render(sprites, frames, video.fps, size, rng, look):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _scene(
    video: Video, seed: int, level: str, rng: np.random.Generator
) -> tuple[list[Sprite], Look | None]:
    """The objects of a video, and what is behind them (None: drawn with the pictures)."""
    if level == "hard":
        return [hard.sprite(a, rng) for a in hard.schedule(video, seed)], hard.look(video, seed)
    return [
        random_sprite(a.start, a.stop, a.verb, a.noun, a.stop - a.start < 13 / video.fps, rng)
        for a in schedule(video, seed)
    ], None


def _pairs(rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """All pairs, over and over, no noun twice in a row if it can be helped."""
    previous = None
    while True:
        deck = [PAIRS[index] for index in rng.permutation(len(PAIRS))]
        while deck:
            pair = next((p for p in deck if p[1] != previous), deck[0])
            deck.remove(pair)
            previous = pair[1]
            yield pair


def _rows(video: Video, seed: int, level: str) -> list[tuple]:
    """A video's lines in the official CSV, all 15 columns."""
    rate = int(annotation_rate(video.video_id))
    rng = chance(seed, video.video_id, "narration")
    rows = []
    if level == "hard":
        actions, verbs, nouns = hard.schedule(video, seed), hard.VERBS, hard.NOUNS
    else:
        actions, verbs, nouns = schedule(video, seed), VERBS, NOUNS
    for index, action in enumerate(actions):
        verb, noun = verbs[action.verb], nouns[action.noun]
        spoken = _timestamp(max(0.0, action.start + rng.uniform(-0.5, 0.5)), 3)
        if video.split == "val" and index == 1:
            spoken = ""  # as in 70 rows of the official val CSV
        # In hundredths, whole numbers: a product of floats can fall just below a whole frame.
        first, last = (max(1, round(t * 100) * rate // 100) for t in (action.start, action.stop))
        rows.append(
            (action.narration_id, video.participant_id, video.video_id, spoken,
             _timestamp(action.start, 2), _timestamp(action.stop, 2), first, last,
             f"{verb} {noun}", verb, action.verb, noun, action.noun, f"['{noun}']",
             f"[{action.noun}]")
        )  # fmt: skip
    return rows


def _timestamp(seconds: float, digits: int) -> str:
    minutes, seconds = divmod(round(seconds, digits), 60)
    return f"{int(minutes) // 60:02d}:{int(minutes) % 60:02d}:{seconds:0{digits + 3}.{digits}f}"


def _rarest(classes: Iterable[int]) -> list[int]:
    counts = Counter(classes)
    return sorted(counts, key=lambda c: (counts[c], c))[:1]
