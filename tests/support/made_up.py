"""Made-up results: predictions and their segments, a submission, a history. No test is here."""

from pathlib import Path

import torch

from epic100.data.official_lists import read_class_names
from epic100.scoring.epoch_table import COLUMNS
from epic100.scoring.predictions import Predictions, write_predictions
from epic100.scoring.submission_file import build

# Pairs are (verb, noun, number of segments of train), as in the pair table.
PAIRS = [(0, 0, 5), (0, 1, 3), (1, 1, 9), (2, 0, 1)]
FEW_PAIRS = [(0, 1, 12), (0, 5, 3), (2, 5, 5), (9, 7, 20)]
# Without a list or an annotation, classes are named by their numbers.
NAMES = read_class_names([])
# The ids of a few segments.
FEW = [f"P01_11_{i}" for i in range(12)]


def make_predictions(
    folder: Path, name: str = "val.pt", listed: str = "val.txt", sure: float = 2.0, classes=(4, 3)
) -> None:
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
