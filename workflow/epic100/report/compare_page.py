"""results/compare.html: all runs on one page that needs no network and fits a phone."""

import os
from collections.abc import Iterator, Sequence
from html import escape

from epic100.base.atomic import atomic_path
from epic100.compare.bootstrap import RESAMPLES
from epic100.compare.runs import GROUPS, Run, what_differs
from epic100.compare.truth import Truth
from epic100.scoring.metrics import TASKS

ABOUT = {
    "overall": "all of val",
    "unseen": "participants without a video in train",
    "tail": "the rarest classes, with 20 % of train",
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 1200px; margin: 0 auto; padding: 16px; }
h1 { font-size: 26px; margin: 8px 0; } h2 { font-size: 19px; margin: 28px 0 4px; }
p { margin: 4px 0 12px; max-width: 75ch; }
.groups { display: grid; gap: 8px 32px;
          grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); }
table { border-collapse: collapse; width: 100%; font-size: 15px; }
th, td { text-align: right; vertical-align: top; padding: 5px 0 5px 10px;
         border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; }
th { color: #555; font-weight: 600; }
th:first-child, td:first-child { text-align: left; padding-left: 0; overflow-wrap: anywhere; }
td.best { font-weight: 700; }
.name td { border: 0; padding: 10px 0 0; font-weight: 600; } .points td { border: 0; }
svg { display: block; width: 100%; height: 18px; }
"""


def write_compare_page(runs: Sequence[Run], truth: Truth, path: str | os.PathLike) -> None:
    """Write the page: figures of every run, the change of top-1 action, settings that differ.

    All text that comes from files is escaped.

    Args:
        runs: The result of `compare.runs.read_runs`.
        truth: The val split.
        path: The HTML file.
    """
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Runs side by side</title><style>{STYLE}</style></head><body>",
        f"<h1>{len(runs)} run{'s' * (len(runs) != 1)} side by side</h1>",
        f"<p>Top-1 in percent on {len(truth.ids)} segments of {truth.video_count} videos of val. "
        "The highest figure of each column is bold.</p>",
        '<div class="groups">',
        *(line for group in GROUPS for line in _figures(runs, group, truth)),
        "</div>",
        *_changes(runs),
        *_settings(runs),
        "<p>All figures of two runs: <code>python -m epic100.compare results "
        "results/runs/NAME</code></p></body></html>",
    ]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _figures(runs: Sequence[Run], group: str, truth: Truth) -> Iterator[str]:
    number = int(truth.members[group]["action"].sum())
    yield f"<section><h2>{group.capitalize()}</h2>"
    yield f"<p>{number} segments for actions: {ABOUT[group]}</p>"
    yield f"<table>{_head('run', *TASKS)}"
    columns = [[run.figures[f"{group}_{task}_accuracy_at_1"] for run in runs] for task in TASKS]
    best = [max((x for x in column if x is not None), default=None) for column in columns]
    for place, run in enumerate(runs):
        cells = []
        for column, most in zip(columns, best, strict=True):
            value = column[place]
            kind = ' class="best"' if value is not None and value == most else ""
            cells.append(f"<td{kind}>{'-' if value is None else f'{value:.2f}'}</td>")
        yield f"<tr><td>{escape(run.name)}</td>{''.join(cells)}</tr>"
    yield "</table></section>"


def _changes(runs: Sequence[Run]) -> Iterator[str]:
    """Differences to the first run, each with a line that shows the interval over videos."""
    others = [(run, run.change) for run in runs if run.change is not None]
    if not others:
        return
    yield f"<h2>Top-1 action, minus {escape(runs[0].name)}</h2>"
    yield (
        f"<p>In percentage points, with 95 % intervals of a paired bootstrap of {RESAMPLES} "
        "resamples. Segments of one video are similar, so the interval over videos is the one for "
        "new videos; the line shows it, and the grey mark is no difference. With many runs, some "
        "intervals miss zero by chance.</p>"
    )
    yield f"<table>{_head('change', 'over segments', 'over videos')}"
    spans = [x for _, change in others for x in (*change.over_videos, change.points)]
    reach = max(1e-6, *map(abs, spans))
    for run, change in others:
        cells = "".join(
            f"<td>{low:+.2f} to {high:+.2f}</td>"
            for low, high in (change.over_segments, change.over_videos)
        )
        yield f'<tr class="name"><td colspan="3">{escape(run.name)}</td></tr>'
        yield f'<tr class="points"><td>{change.points:+.2f}</td>{cells}</tr>'
        low, high, middle = (
            500 + 480 * value / reach for value in (*change.over_videos, change.points)
        )
        yield (
            '<tr><td colspan="3"><svg viewBox="0 0 1000 18" preserveAspectRatio="none" '
            'aria-hidden="true"><path d="M500 0V18" stroke="#999" stroke-width="3"/>'
            f'<path d="M{low:.1f} 9H{high:.1f}" stroke="#0072B2" stroke-width="3"/>'
            f'<path d="M{middle:.1f} 3V15" stroke="#0072B2" stroke-width="6"/></svg></td></tr>'
        )
    yield "</table>"


def _settings(runs: Sequence[Run]) -> Iterator[str]:
    yield "<h2>What differs in their settings</h2>"
    differing = what_differs(runs)
    if not differing:
        yield "<p>Nothing.</p>"
        return
    yield (
        "<p>Keys of the MMEngine config, of the training and of the export. Keys that differ in "
        "the same way are on one line.</p>"
    )
    yield "<table>"
    for place, run in enumerate(runs):
        shown = "<br>".join(
            f"{escape(name)}: <b>{escape(values[place])}</b>" for name, values in differing.items()
        )
        yield f'<tr class="name"><td>{escape(run.name)}</td></tr><tr><td>{shown}</td></tr>'
    yield "</table>"


def _head(*names: str) -> str:
    return f"<tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>"
