"""The files of a timeline: TSV, JSON, WebVTT, and ActivityNet's form."""

import csv
import html
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from epic100.base.atomic import atomic_path
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
    contents = (as_json(timeline), as_vtt(timeline), as_activitynet(timeline), None)
    for suffix, content in zip(SUFFIXES, contents, strict=True):
        with atomic_path(beside(tsv, suffix)) as temporary:
            if content is None:
                _write_tsv(timeline, temporary)
            elif isinstance(content, str):
                temporary.write_text(content, encoding="utf-8")
            else:
                text = json.dumps(content, ensure_ascii=False, indent=1)
                temporary.write_text(text + "\n", encoding="utf-8")


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


def _write_tsv(timeline: Timeline, path: Path) -> None:
    rows = [
        (
            s.start, s.stop, "action", s.verb, s.noun, s.verb_name, s.noun_name,
            *(f"{p:.4f}" for p in (s.probability, s.verb_probability, s.noun_probability)),
        )
        for s in timeline.segments
    ]  # fmt: skip
    rows += [(*stretch, "damaged", *[""] * 7) for stretch in timeline.damaged]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        for start, stop, *rest in sorted(rows, key=lambda row: row[:2]):
            writer.writerow([f"{start:.3f}", f"{stop:.3f}", *rest])


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def _clock(seconds: float) -> str:
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
