"""results/summary.txt: what was kept and how accurate the model is, on one screen."""

import json
import os

from epic100.base.atomic import write_text
from epic100.base.disk import read_text
from epic100.base.text_table import read_frame
from epic100.report.published import PUBLISHED, VAL_SEGMENTS
from epic100.report.tables import warning
from epic100.segments.cleaning import salvage_lines
from epic100.segments.drop_reasons import read_dropped


def write_summary(
    salvage: str | os.PathLike,
    metrics: str | os.PathLike,
    dropped: str | os.PathLike,
    out: str | os.PathLike,
) -> None:
    """Write the summary. What makes the figures worth little is its first line.

    Args:
        salvage: results/clean/salvage.tsv.
        metrics: The model's metrics.json.
        dropped: results/clean/dropped.tsv.
        out: The text file to write.
    """
    table = read_frame(salvage)
    figures = json.loads(read_text(metrics))
    words = warning(figures, dropped)
    lines = [f"Warning. {words}", ""] if words else []
    lines.append("Segments")
    lines += [f"  {line}" for line in salvage_lines(table, read_dropped(dropped))]
    lines += [
        "",
        f"Validation, {figures['segments']} segments, {figures['predicted']} of them predicted "
        f"(folded by {figures['reduce']})",
        f"  {'':10}{'verb':>8}{'noun':>8}{'action':>8}   percent",
    ]
    for group, k in (("overall", 1), ("overall", 5), ("readable", 1), ("unseen", 1), ("tail", 1)):
        cells = [
            figures.get(f"{group}_{task}_accuracy_at_{k}") for task in ("verb", "noun", "action")
        ]
        shown = "".join(f"{'-' if cell is None else format(cell, '.2f'):>8}" for cell in cells)
        lines.append(f"  {group:<9}{shown}   top-{k}")
    if figures["segments"] == VAL_SEGMENTS:
        lines += ["", "Published on the same segments; not of this run (head: a head over pairs)"]
        lines.append(f"  {'':26}{'verb':>8}{'noun':>8}{'action':>8}{'head':>8}   top-1")
        for model in PUBLISHED:
            each = (model.verb, model.noun, model.action, model.action_head)
            shown = "".join(f"{'-' if cell is None else format(cell, '.2f'):>8}" for cell in each)
            lines.append(f"  {model.name:<26}{shown}")
    write_text(out, "\n".join(lines) + "\n")
