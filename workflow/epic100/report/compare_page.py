"""results/compare.html: all runs on one page that needs no network and fits a phone."""

import os
from collections.abc import Sequence

from epic100.base.atomic import write_text
from epic100.compare.bootstrap import RESAMPLES
from epic100.compare.runs import FIGURES, GROUPS, Run, what_differs
from epic100.report.template import template
from epic100.scoring.metrics import TASKS
from epic100.scoring.truth import Truth

ABOUT = {
    "overall": "all of val",
    "unseen": "participants without a video in train",
    "tail": "the rarest classes, with 20 % of train",
}


def write_compare_page(runs: Sequence[Run], truth: Truth, path: str | os.PathLike) -> None:
    """Write the page: figures of every run, the change of top-1 action, settings that differ.

    All text that comes from files is escaped.

    Args:
        runs: The result of `compare.runs.read_runs`.
        truth: The val split.
        path: The HTML file.
    """
    best = {
        key: max((run.figures[key] for run in runs if run.figures[key] is not None), default=None)
        for key in FIGURES
    }
    changes = [run.change for run in runs if run.change is not None]
    reach = max([1e-6, *(abs(x) for c in changes for x in (*c.over_videos, c.points))])
    page = template("compare.html.j2").render(
        runs=runs,
        segments=len(truth.ids),
        videos=truth.video_count,
        tasks=TASKS,
        groups=[
            {
                "name": group,
                "about": ABOUT[group],
                "segments": int(truth.members[group]["action"].sum()),
                "best": best,
            }
            for group in GROUPS
        ],
        changed=[run for run in runs if run.change is not None],
        resamples=RESAMPLES,
        x=lambda value: f"{500 + 480 * value / reach:.1f}",
        differing=what_differs(runs),
    )
    write_text(path, page)
