"""What a timeline says, and its files: TSV, JSON, WebVTT, and the forms of ActivityNet and C2."""

import html
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from epic100.base.atomic import write_text
from epic100.base.disk import read_json
from epic100.base.text_table import write_table
from epic100.scoring.predictions import Predictions, marginals
from epic100.segments.official_lists import ClassNames
from epic100.settings import TimelineSettings
from epic100.timeline.clips import Placed
from epic100.video.scan_table import ranges_of

# This many classes of each clip are listed.
TOP = 5
FORMAT = "epic100 timeline 1"
COLUMNS = (
    "start",
    "stop",
    "what",
    "verb",
    "noun",
    "verb_name",
    "noun_name",
    "probability",
    "verb_probability",
    "noun_probability",
)
# The files are written in this order.
SUFFIXES = (".json", ".vtt", ".activitynet.json", ".tsv")


@dataclass(frozen=True)
class Run:
    """Neighbouring steps with the same pair.

    Attributes:
        start: First step.
        stop: Step after the last one.
        pair: Column of the pair.
        probability: Mean smoothed probability of the pair, 0 to 1.
    """

    start: int
    stop: int
    pair: int
    probability: float


def merge(
    probabilities: np.ndarray,
    sound: np.ndarray,
    settings: TimelineSettings,
    idle: np.ndarray | None = None,
    threshold: float = 1.0,
) -> list[Run]:
    """Merge steps into segments.

    With p(t, k) the probability of pair k at step t, and r = round(smooth / stride / 2):

    1. s(t, k) is the mean of p(u, k) over the steps u from t - r to t + r that are in the same
       stretch of sound steps.
    2. The pair of step t is k(t) = argmax s(t, k). A run is a longest stretch of neighbouring sound
       steps with one pair.
    3. A run is kept if the mean of s(t, k(t)) over its steps is at least `threshold`, and it lasts
       `min_seconds` or longer.

    Steps in which nothing happens part runs as well, and are in none: those where the mean of
    `idle`, over the same steps as in 1, is at least its threshold.

    No two segments overlap, and none goes over damage.

    Args:
        probabilities: [N, P], of pairs; rows of steps that are not sound are not used.
        sound: bool [N].
        settings: stride, smooth, threshold, min_seconds.
        idle: [N], how sure it is that nothing happens, 0 to 1; None: something always does.
        threshold: Of `idle`.

    Returns:
        The runs in order.
    """
    reach = round(settings.smooth / settings.stride / 2)
    runs = []
    for first, after in ranges_of(sound):
        smooth = moving_mean(probabilities[first:after], reach)
        best, height = smooth.argmax(axis=1), smooth.max(axis=1)
        if idle is not None:
            quiet = moving_mean(idle[first:after, None], reach)[:, 0] >= threshold
            best[quiet], height[quiet] = -1, -1.0  # It is below any threshold.
        borders = [0, *(np.flatnonzero(np.diff(best)) + 1).tolist(), len(best)]
        for start, stop in zip(borders, borders[1:], strict=False):
            mean = float(height[start:stop].mean())
            is_long = (stop - start) * settings.stride >= settings.min_seconds - 1e-9
            if is_long and mean >= settings.threshold:
                runs.append(Run(first + start, first + stop, int(best[start]), mean))
    return runs


def moving_mean(rows: np.ndarray, reach: int) -> np.ndarray:
    """Mean of each row and the `reach` rows on both sides, fewer at the ends; float64 [N, P]."""
    row_numbers = np.arange(len(rows))
    low, high = np.maximum(row_numbers - reach, 0), np.minimum(row_numbers + reach + 1, len(rows))
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=float)])
    return (sums[high] - sums[low]) / (high - low)[:, None]


@dataclass(frozen=True)
class Segment:
    """One action. Times are in seconds of a player's clock, probabilities from 0 to 1.

    The probability of the pair is `Run.probability`. Those of verb and noun are means over the
    segment's clips.
    """

    start: float
    stop: float
    verb: int
    noun: int
    pair: int
    verb_name: str
    noun_name: str
    probability: float
    verb_probability: float
    noun_probability: float

    @property
    def action(self) -> str:
        """The action in words."""
        return f"{self.verb_name} {self.noun_name}"


@dataclass(frozen=True)
class Timeline:
    """All about one video.

    Attributes:
        video: Its name, without suffix.
        fps: Mean frames per second.
        duration: Seconds until the last picture ends.
        damaged: Damaged stretches in seconds.
        segments: The actions, in order.
        clips: One dict per step: `start`, `stop` (seconds) and either `damaged: True` or `actions`,
            `verbs` and `nouns`, each with the `TOP` most probable.
        made_from: Digest of the model, state of the video file, settings.
        late: When the first picture is shown. All times are those of a player's clock.
        judged: What looked for damage in the video, as in `ScanRow`; "" if nothing is recorded.
    """

    video: str
    fps: float
    duration: float
    damaged: list[tuple[float, float]]
    segments: list[Segment]
    clips: list[dict[str, Any]]
    made_from: Mapping[str, Any]
    late: float = 0.0
    judged: str = ""


def build_timeline(
    video: str,
    fps: float,
    placed: Placed,
    predictions: Predictions,
    names: ClassNames,
    settings: TimelineSettings,
    made_from: Mapping[str, Any],
    late: float = 0.0,
    idle: np.ndarray | None = None,
    threshold: float = 1.0,
) -> Timeline:
    """Build a timeline from the predictions of its clips.

    Args:
        video: Name of the video.
        fps: Mean frames per second.
        placed: The steps.
        predictions: Of the sound steps, in order.
        names: Class names.
        settings: How to merge.
        made_from: What to record.
        late: When a player shows the first picture, in seconds.
        idle: Of the sound steps, as for `merge`.
        threshold: As for `merge`.
    """
    times = [late + placed.seconds(step) for step in range(len(placed.sound) + 1)]
    damaged = [(late + start, late + stop) for start, stop in placed.damaged]
    members = [pair[:2] for pair in predictions.pairs]
    pairs = _spread(predictions.log_probs, placed.sound)
    verbs, nouns = (_spread(rows, placed.sound) for rows in marginals(predictions))
    segments = []
    quiet = None
    if idle is not None:
        quiet = np.ones(len(placed.sound))
        quiet[placed.sound] = idle
    for run in merge(pairs, placed.sound, settings, quiet, threshold):
        verb, noun = members[run.pair]
        steps = slice(run.start, run.stop)
        segments.append(
            Segment(
                times[run.start],
                times[run.stop],
                verb,
                noun,
                run.pair,
                names("verb", verb),
                names("noun", noun),
                run.probability,
                float(verbs[steps, verb].mean()),
                float(nouns[steps, noun].mean()),
            )
        )
    clips: list[dict[str, Any]] = []
    for step, sound in enumerate(placed.sound.tolist()):
        clip: dict[str, Any] = {"start": times[step], "stop": times[step + 1]}
        if sound and quiet is not None:
            clip["background"] = float(quiet[step])
        if sound:
            actions = [
                {"verb": v, "noun": n, "name": f"{names('verb', v)} {names('noun', n)}"} | rest
                for (v, n), rest in ((members[k], rest) for k, rest in _best(pairs[step]))
            ]
            clip |= {
                "actions": actions,
                "verbs": [{"verb": k, "name": names("verb", k)} | p for k, p in _best(verbs[step])],
                "nouns": [{"noun": k, "name": names("noun", k)} | p for k, p in _best(nouns[step])],
            }
        else:
            clip["damaged"] = True
        clips.append(clip)
    return Timeline(video, fps, times[-1], damaged, segments, clips, made_from, late)


def _spread(log_probs: torch.Tensor, sound: np.ndarray) -> np.ndarray:
    """Probabilities of all steps, float32 [N, classes]; 0 where a step is not sound."""
    rows = np.zeros((len(sound), log_probs.shape[1]), np.float32)
    rows[sound] = log_probs.exp().numpy()
    return rows


def _best(row: np.ndarray) -> list[tuple[int, dict[str, float]]]:
    best = np.argsort(-row, kind="stable")[:TOP]
    return [(int(k), {"probability": round(float(row[k]), 4)}) for k in best]


def write_timeline(timeline: Timeline, tsv: str | os.PathLike) -> None:
    """Write all files of a timeline, each atomically, and the TSV last.

    Args:
        timeline: The timeline.
        tsv: `{video}.tsv`; the others are beside it (`SUFFIXES`).
    """
    written = (as_json(timeline), as_vtt(timeline), as_activitynet(timeline))
    # The last suffix is the table's, which is written after the others.
    for suffix, content in zip(SUFFIXES, written, strict=False):
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
        "judged": timeline.judged,
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
    entry = {
        "subset": "predicted",
        "duration": round(timeline.duration, 3),
        "fps": round(timeline.fps, 6),
        "frame": round(timeline.duration * timeline.fps),
        "annotations": rows,
    }
    return {
        "version": FORMAT,
        "database": {timeline.video: entry},
        "results": {timeline.video: rows},
    }


def write_detections(
    timelines: Sequence[str | os.PathLike], out: str | os.PathLike, sls: Mapping[str, int]
) -> None:
    """Write timelines of a split as the official tools for detection read them.

    Format: epic-kitchens/C2-Action-Detection at 4835721,
    EvaluationCode/evaluate_detection_json_ek100.py. Times are seconds of the annotation's clock.

    Args:
        timelines: Files of `as_json`, one a video, whose names are video_ids.
        out: results/detections.json.
        sls: Supervision levels `pt`, `tl` and `td`, as for a submission.
    """
    videos = [read_json(path) for path in timelines]
    results = {
        video["video"]: [
            {
                "verb": segment["verb"],
                "noun": segment["noun"],
                "action": f"{segment['verb']},{segment['noun']}",
                "score": segment["probability"],
                "segment": [segment["start"], segment["stop"]],
            }
            for segment in video["segments"]
        ]
        for video in videos
    }
    head = {"version": "0.2", "challenge": "action_detection"}
    levels = {f"sls_{key}": sls[key] for key in ("pt", "tl", "td")}
    write_text(out, json.dumps(head | levels | {"results": results}) + "\n")


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
            s.start,
            s.stop,
            "action",
            s.verb,
            s.noun,
            s.verb_name,
            s.noun_name,
            *(f"{p:.4f}" for p in (s.probability, s.verb_probability, s.noun_probability)),
        )
        for s in timeline.segments
    ]
    rows += [(*stretch, "damaged", *[""] * 7) for stretch in timeline.damaged]
    for start, stop, *rest in sorted(rows, key=lambda row: row[:2]):
        yield [f"{start:.3f}", f"{stop:.3f}", *rest]


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def _clock(seconds: float) -> str:
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
