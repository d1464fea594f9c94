"""A training's history of two epochs, the second one validated. No test in here."""

from pathlib import Path

from epic100.training.epoch_table import COLUMNS

ROWS = [
    "1\t16\t0.003\t1.9855\t\t\t\t\t\t\t14.29\t0.5\t9.0",
    "2\t32\t0.0015\t1.6355\t93.48\t100.00\t81.25\t99.50\t75.00\t97.50\t20.00\t0.25\t11.0",
]


def write_history(folder: Path, *rows: str) -> Path:
    """Write `training.tsv` with these rows."""
    path = folder / "training.tsv"
    path.write_text("\n".join(["\t".join(COLUMNS), *rows]) + "\n")
    return path
