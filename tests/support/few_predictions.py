"""Predictions of twelve segments of one video, with pairs of 97 verbs and 300 nouns."""

from pathlib import Path

import torch

from epic100.scoring.predictions import Predictions

PAIRS = [(0, 1, 12), (0, 5, 3), (2, 5, 5), (9, 7, 20)]
IDS = [f"P01_11_{i}" for i in range(12)]


def predictions(ids: list[str] = IDS, seed: int = 0, **changes: object) -> Predictions:
    """Random scores, or what `changes` names, of val."""
    logits = torch.randn(len(ids), len(PAIRS), generator=torch.Generator().manual_seed(seed)) * 3
    fields = {
        "split": "val", "narration_ids": list(ids), "log_probs": logits.log_softmax(dim=1),
        "pairs": PAIRS, "num_verbs": 97, "num_nouns": 300, "trained_on": {"split": "train"},
    }  # fmt: skip
    return Predictions(**(fields | changes))


def segment_list(path: Path, ids: list[str] = IDS) -> Path:
    """Write the list of these segments."""
    lines = [f"P01/P01_11.MP4 {i} {i + 9} 0 1 {name}\n" for i, name in enumerate(ids)]
    path.write_text("".join(lines))
    return path
