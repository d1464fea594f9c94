"""results/summary.txt: what was kept and how accurate the model is, on one screen."""

import os

from epic100.base.atomic import write_text
from epic100.base.disk import read_json
from epic100.base.text_table import read_frame
from epic100.report.tables import published_rows, warning
from epic100.report.template import template
from epic100.scoring.published import CAUSES
from epic100.segments.cleaning import salvage_lines
from epic100.segments.drop_reasons import held_back


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
    figures = read_json(metrics)
    text = template("summary.txt.j2").render(
        figures=figures,
        warning=warning(figures, dropped),
        kept=[*salvage_lines(read_frame(salvage)), *held_back(dropped)],
        published=published_rows(figures),
        causes=CAUSES,
    )
    write_text(out, text)
