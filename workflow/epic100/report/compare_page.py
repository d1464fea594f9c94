"""results/compare.html: all runs on one page that needs no network and fits a phone."""

import os
from collections.abc import Mapping, Sequence

from epic100.base.atomic import write_text
from epic100.base.folders import links
from epic100.compare.bootstrap import RESAMPLES
from epic100.compare.runs import FIGURES, GROUPS, Run, what_differs
from epic100.report.page import Picture
from epic100.report.template import template
from epic100.scoring.metrics import TASKS
from epic100.scoring.outcomes import Truth


def write_compare_page(
    runs: Sequence[Run],
    truth: Truth,
    path: str | os.PathLike,
    costs: Mapping[str, Mapping[str, str]],
    curves: Picture | None = None,
) -> None:
    """Write the page of all runs: accuracies, their changes, curves, costs, different settings.

    All text that comes from files is escaped.

    Args:
        runs: The result of `compare.runs.read_runs`.
        truth: The val split.
        path: The HTML file.
        costs: `figures.training.cost_in_words` of each run, by its name.
        curves: The picture of `figures.training.plot_runs`, if any run was trained here.
    """
    best = {
        key: max((run.figures[key] for run in runs if run.figures[key] is not None), default=None)
        for key in FIGURES
    }
    changes = [run.change for run in runs if run.change is not None]
    drawn_values = [
        value for change in changes for value in (change.points, *(change.over_videos or ()))
    ]
    # The axis ends at this change. It must not be 0, since all changes are divided by it.
    largest_change = max([1e-6, *map(abs, drawn_values)])
    page = template("compare.html.j2").render(
        runs=runs,
        segments=len(truth.ids),
        videos=truth.video_count,
        tasks=TASKS,
        groups=[
            {
                "name": group,
                "about": about,
                "segments": int(truth.members[group]["action"].sum()),
                "best": best,
            }
            for group, about in GROUPS.items()
        ],
        changed=[run for run in runs if run.change is not None],
        resamples=RESAMPLES,
        # The drawing is 1000 units wide: no change is in the middle, and the largest one ends 20
        # units before the edge.
        bar_position=lambda change: f"{500 + 480 * change / largest_change:.1f}",
        differing=what_differs(runs),
        costs=costs,
        curves=curves,
        pages={
            run.name: links(
                path,
                {
                    "report": run.folder / "report.html",
                    "every segment": run.folder / "browse/index.html",
                    "model card": run.folder / "model_card.md",
                },
            )
            for run in runs
        },
    )
    write_text(path, page)
