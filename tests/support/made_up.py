"""Made-up results: predictions and their segments, a submission, a history, tables of real size.

No test is here.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from epic100.data.official_lists import read_class_names
from epic100.scoring.epoch_table import COLUMNS
from epic100.scoring.predictions import Predictions, write_predictions
from epic100.scoring.submission_file import build
from epic100.video.sheet import Video, read_sheet
from support.checkout import ROOT

# Pairs are (verb, noun, number of segments of train), as in the pair table.
PAIRS = [(0, 0, 5), (0, 1, 3), (1, 1, 9), (2, 0, 1)]
FEW_PAIRS = [(0, 1, 12), (0, 5, 3), (2, 5, 5), (9, 7, 20)]
# Without a list or an annotation, classes are named by their numbers.
NAMES = read_class_names([])
# The ids of a few segments.
FEW = [f"P01_11_{i}" for i in range(12)]


def make_predictions(
    folder: Path, name: str = "val.pt", listed: str = "val.txt", sure: float = 2.0, classes=(4, 3)
) -> Predictions:
    """Write a list of 40 segments of P00, P01 and P02, and predictions of all but the last five.

    The greater `sure` is, the more predictions are right.
    """
    generator = torch.Generator().manual_seed(0)
    true_pairs = torch.randint(0, len(PAIRS), (40,), generator=generator)
    logits = torch.randn(35, len(PAIRS), generator=generator)
    logits[torch.arange(35), true_pairs[:35]] += sure
    segment_list(folder / listed, [f"s{i}" for i in range(40)], [PAIRS[i] for i in true_pairs])
    ids = [f"s{i}" for i in range(35)]
    made = Predictions("val", ids, logits.log_softmax(1), PAIRS, *classes, {})
    write_predictions(made, folder / name)
    return made


def predictions(ids: list[str] = FEW, seed: int = 0, **changes: object) -> Predictions:
    """Draw predictions for these segments; `changes` replace fields of `Predictions`."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(len(ids), len(FEW_PAIRS), generator=generator) * 3
    fields = {
        "split": "val",
        "narration_ids": list(ids),
        "log_probs": scores.log_softmax(dim=1),
        "pairs": FEW_PAIRS,
        "num_verbs": 97,
        "num_nouns": 300,
        "trained_on": {"split": "train"},
    }
    return Predictions(**(fields | changes))


def segment_list(path: Path, ids: list[str] = FEW, pairs=None) -> Path:
    """Write the list of these segments, in turn in videos of three participants."""
    pairs = pairs or [FEW_PAIRS[0]] * len(ids)
    lines = []
    for i, (name, (verb, noun, _)) in enumerate(zip(ids, pairs, strict=True)):
        lines.append(f"P0{i % 3}/P0{i % 3}_01.MP4 {i} {i + 9} {verb} {noun} {name}\n")
    path.write_text("".join(lines))
    return path


# A small submission has V verbs, M nouns and N segments.
V, M, N = 5, 8, 20
IDS = [f"P01_{video}_{i}" for video in (11, 101) for i in range(N // 2)]
SLS = {"pt": 2, "tl": 3, "td": 4}


def scores() -> list[torch.Tensor]:
    """Draw the scores [N, V] of verbs and [N, M] of nouns."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(N, size, generator=generator).log_softmax(dim=1) for size in (V, M)]


def make_entries() -> list[dict]:
    """Make the entries of a submission of the segments `IDS`."""
    return build(IDS, *scores())


# The rows of two epochs, the second of which was validated; the columns are `COLUMNS`.
ROWS = [
    "1\t16\t0.003\t1.9855\t\t\t\t\t\t\t\t14.29\t0.5\t9.0",
    "2\t32\t0.0015\t1.6355\t1.8125\t93.48\t100.00\t81.25\t99.50\t75.00\t97.50\t20.00\t0.25\t11.0",
]


def write_history(folder: Path, *rows: str) -> Path:
    """Write `training.tsv` with these rows."""
    path = folder / "training.tsv"
    path.write_text("\n".join(["\t".join(COLUMNS), *rows]) + "\n")
    return path


UNSEEN = ["P18", "P32"]
TAIL_VERBS, TAIL_NOUNS = range(20, 97, 3), range(50, 300, 2)

# The official evaluate.py (epic-kitchens/C1-Action-Recognition c90b6f9, NumPy 2.4.6) printed these
# for the segments of `official_case`. The segments have no tied scores, because NumPy ranks ties in
# an order that depends on the processor. benchmarks/submission.py compares both evaluators on one
# processor.
OFFICIAL = {
    "overall_action_accuracy_at_1": 5.25,
    "overall_action_accuracy_at_5": 16.25,
    "overall_noun_accuracy_at_1": 18.75,
    "overall_noun_accuracy_at_5": 40.75,
    "overall_verb_accuracy_at_1": 29.5,
    "overall_verb_accuracy_at_5": 63.5,
    "tail_action_accuracy_at_1": 5.286343612334802,
    "tail_noun_accuracy_at_1": 22.424242424242426,
    "tail_verb_accuracy_at_1": 27.835051546391753,
    "unseen_action_accuracy_at_1": 3.723404255319149,
    "unseen_noun_accuracy_at_1": 19.148936170212767,
    "unseen_verb_accuracy_at_1": 27.659574468085108,
}


def official_case() -> tuple[np.ndarray, ...]:
    """Draw scores of verbs and of nouns, true verbs, true nouns and participants."""
    # This generator draws the same numbers in every version of NumPy.
    random = np.random.RandomState(100)
    verb_true, noun_true = random.randint(0, 97, 400), random.randint(0, 300, 400)
    participants = np.array(["P01", "P18", "P32", "P04"])[random.randint(0, 4, 400)]
    scores = []
    for true, size in ((verb_true, 97), (noun_true, 300)):
        logits = random.randn(400, size)
        logits[np.arange(400), true] += 2
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        scores.append(logprobs.astype(np.float32))
    return *scores, verb_true, noun_true, participants


# The official CSVs have 90,000 segments of 100 hours of video.
SEGMENTS_PER_HOUR = 900


def real_sheet() -> dict[str, Video]:
    """Read the official sheet, by video id."""
    return {video.video_id: video for video in read_sheet(ROOT / "config/videos.tsv")}


def real_segments(videos: dict[str, Video], splits: Collection[str]) -> pd.DataFrame:
    """Draw a segment list of the videos of these splits, with segments of two seconds."""
    rng = np.random.default_rng(0)
    rows = []
    for video in videos.values():
        if video.split in splits:
            count = round(video.duration / 3600 * SEGMENTS_PER_HOUR)
            for n, seconds in enumerate(rng.uniform(0, video.duration - 2, count)):
                start, stop = int(seconds * video.fps), int((seconds + 2) * video.fps)
                rows.append((video.path().as_posix(), start, stop, f"{video.video_id}_{n}"))
    return pd.DataFrame(rows, columns=["path", "start", "stop", "narration_id"])
