"""The files of a timeline: TSV, JSON, WebVTT, and ActivityNet's form."""

import html
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from epic100.base.atomic import write_text
from epic100.base.text_table import write_table
from epic100.timeline.content import Timeline

FORMAT = "epic100 timeline 1"
COLUMNS = (
    "start", "stop", "what", "verb", "noun", "verb_name", "noun_name", "probability",
    "verb_probability", "noun_probability",
)  # fmt: skip
SUFFIXES = (".json", ".vtt", ".activitynet.json", ".tsv")  # in the order of writing


def write_timeline(timeline: Timeline, tsv: str | os.PathLike) -> None:
    """Write all files of a timeline, each atomically, and the TSV last.

    Args:
        timeline: The timeline.
        tsv: `{video}.tsv`; the others are beside it (`SUFFIXES`).
    """
    written = (as_json(timeline), as_vtt(timeline), as_activitynet(timeline))
    for suffix, content in zip(SUFFIXES, written, strict=False):  # the table last
        if not isinstance(content, str):
            content = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        write_text(beside(tsv, suffix), content)
    write_table(tsv, COLUMNS, _rows(timeline))


def beside(tsv: str | os.PathLike, suffix: str) -> Path:
    """The path of another file of the same timeline."""
    path = Path(tsv)
    return path.with_name(path.name.removesuffix(".tsv") + suffix)


def as_json(timeline: Timeline) -> dict[str, Any]:
    """Everything, with the best classes of every clip."""
    return {
        "format": FORMAT,
        "video": timeline.video,
        "fps": round(timeline.fps, 6),
        "duration": round(timeline.duration, 3),
        "first_picture": round(timeline.late, 3),
        "made_from": dict(timeline.made_from),
        "damaged": [[round(second, 3) for second in stretch] for stretch in timeline.damaged],
        "segments": [
            {"action": segment.action} | {key: _short(v) for key, v in asdict(segment).items()}
            for segment in timeline.segments
        ],
        "clips": [{key: _short(v) for key, v in clip.items()} for clip in timeline.clips],
    }


def as_activitynet(timeline: Timeline) -> dict[str, Any]:
    """One file for both uses of ActivityNet's form; `label_id` is the pair's id in the model.

    `database` is what ActionFormer (`load_gt_seg_from_json`) and OpenTAD read as segments of a
    video; `results` is what OpenTAD's evaluators read as predictions, with scores.
    """
    rows = [
        {
            "label": segment.action,
            "label_id": segment.pair,
            "segment": [round(segment.start, 3), round(segment.stop, 3)],
            "score": round(segment.probability, 4),
        }
        for segment in timeline.segments
    ]
    about = {
        "subset": "predicted",
        "duration": round(timeline.duration, 3),
        "fps": round(timeline.fps, 6),
        "frame": round(timeline.duration * timeline.fps),
        "annotations": rows,
    }
    return {
        "version": FORMAT,
        "database": {timeline.video: about},
        "results": {timeline.video: rows},
    }


def as_vtt(timeline: Timeline) -> str:
    """Captions for a player (WebVTT, W3C): what the model sees, and damage."""
    cues = [
        (s.start, s.stop, f"{s.action} {100 * s.probability:.0f} %") for s in timeline.segments
    ] + [(*stretch, "(damaged)") for stretch in timeline.damaged]
    blocks = ["WEBVTT"] + [
        f"{_clock(start)} --> {_clock(stop)}\n{html.escape(' '.join(text.split()), quote=False)}"
        for start, stop, text in sorted(cues)
    ]
    return "\n\n".join(blocks) + "\n"


def _rows(timeline: Timeline) -> Iterator[list[Any]]:
    rows = [
        (
            s.start, s.stop, "action", s.verb, s.noun, s.verb_name, s.noun_name,
            *(f"{p:.4f}" for p in (s.probability, s.verb_probability, s.noun_probability)),
        )
        for s in timeline.segments
    ]  # fmt: skip
    rows += [(*stretch, "damaged", *[""] * 7) for stretch in timeline.damaged]
    for start, stop, *rest in sorted(rows, key=lambda row: row[:2]):
        yield [f"{start:.3f}", f"{stop:.3f}", *rest]


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def _clock(seconds: float) -> str:
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
