"""Predictions of val, made up, and lists of their segments. No test in here."""

from pathlib import Path

import torch

from epic100.scoring.predictions import Predictions, write_predictions
from epic100.segments.official_lists import read_class_names

PAIRS = [(0, 0, 5), (0, 1, 3), (1, 1, 9), (2, 0, 1)]
NAMES = read_class_names([])
FEW_PAIRS = [(0, 1, 12), (0, 5, 3), (2, 5, 5), (9, 7, 20)]
FEW = [f"P01_11_{i}" for i in range(12)]


def make_predictions(
    folder: Path, name: str = "val.pt", listed: str = "val.txt", sure: float = 2.0, classes=(4, 3)
) -> None:
    """Write the list of 40 segments of P00, P01 and P02 and predictions of all but the last five.

    The greater `sure` is, the more of them are right.
    """
    generator = torch.Generator().manual_seed(0)
    place = torch.randint(0, len(PAIRS), (40,), generator=generator)
    logits = torch.randn(35, len(PAIRS), generator=generator)
    logits[torch.arange(35), place[:35]] += sure
    segment_list(folder / listed, [f"s{i}" for i in range(40)], [PAIRS[i] for i in place])
    ids, scores = [f"s{i}" for i in range(35)], logits.log_softmax(1)
    write_predictions(Predictions("val", ids, scores, PAIRS, *classes, {}), folder / name)


def predictions(ids: list[str] = FEW, seed: int = 0, **changes: object) -> Predictions:
    """Random scores of 97 verbs and 300 nouns, or what `changes` names."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(len(ids), len(FEW_PAIRS), generator=generator) * 3
    fields = {
        "split": "val", "narration_ids": list(ids), "log_probs": scores.log_softmax(dim=1),
        "pairs": FEW_PAIRS, "num_verbs": 97, "num_nouns": 300, "trained_on": {"split": "train"},
    }  # fmt: skip
    return Predictions(**(fields | changes))


def segment_list(path: Path, ids: list[str] = FEW, pairs=None) -> Path:
    """Write the list of these segments, one after the other in videos of three participants."""
    path.write_text("".join(
        f"P0{i % 3}/P0{i % 3}_01.MP4 {i} {i + 9} {verb} {noun} {name}\n"
        for i, (name, (verb, noun, _)) in enumerate(
            zip(ids, pairs or [(0, 1, 12)] * len(ids), strict=True)
        )
    ))  # fmt: skip
    return path
