"""Timelines of videos and their files: TSV, JSON, WebVTT, and the forms of ActivityNet and C2."""

import html
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from epic100.base.atomic import write_text
from epic100.base.disk import read_json
from epic100.base.text_table import write_table
from epic100.data.official_lists import ClassNames
from epic100.prediction.clip_outputs import ClipPlan
from epic100.scoring.predictions import Predictions, marginals
from epic100.settings.prediction import TimelineSettings
from epic100.video.scan_table import ranges_of

# Number of classes that are listed for each clip.
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
# The files of a timeline end with these.
SUFFIXES = (".json", ".vtt", ".activitynet.json", ".tsv")


@dataclass(frozen=True)
class ActionSpan:
    """A span of neighbouring steps with the same pair of verb and noun.

    Attributes:
        start: First step.
        stop: Step after the last one.
        pair: Number of the pair: its column among the probabilities.
        probability: Mean smoothed probability of the pair, 0 to 1.
    """

    start: int
    stop: int
    pair: int
    probability: float


def merge(
    probabilities: np.ndarray,
    undamaged: np.ndarray,
    settings: TimelineSettings,
    background_scores: np.ndarray | None = None,
    background_threshold: float = 1.0,
) -> list[ActionSpan]:
    """Merge the steps of a video into segments.

    With p(t, k) the probability of pair k at step t, and r = round(smooth / stride / 2):

    1. s(t, k) is the mean of p(u, k) over the steps u from t - r to t + r that are in the same
       stretch of undamaged steps.
    2. The pair of step t is k(t) = argmax s(t, k). A span is a longest stretch of neighbouring
       undamaged steps with one pair.
    3. A span is kept if the mean of s(t, k(t)) over its steps is at least `threshold`, and it lasts
       `min_seconds` or longer.

    Steps in which nothing happens end a span as well, and are in none: the steps where the mean of
    `background_scores`, over the same steps as in 1, is at least `background_threshold`.

    No two segments overlap, and none goes over damage.

    Args:
        probabilities: Probability of each pair at each step, [N, P]. Rows of damaged steps are not
            used.
        undamaged: Whether a step is undamaged, bool [N].
        settings: stride, smooth, threshold, min_seconds.
        background_scores: [N], the background score of each step, 0 to 1; None: something always
            happens.
        background_threshold: With this mean of `background_scores` or more, nothing happens.

    Returns:
        The spans in order.
    """
    # The r of the docstring, in steps.
    reach = round(settings.smooth / settings.stride / 2)
    spans = []
    for stretch_start, stretch_stop in ranges_of(undamaged):
        # The pair of each step of the stretch, and its smoothed probability.
        smooth = moving_mean(probabilities[stretch_start:stretch_stop], reach)
        best_pair, best_probability = smooth.argmax(axis=1), smooth.max(axis=1)
        if background_scores is not None:
            scores = background_scores[stretch_start:stretch_stop, None]
            is_idle = moving_mean(scores, reach)[:, 0] >= background_threshold
            # Idle steps get their own pair, which ends a span before them, and a probability below
            # any threshold, so that they make no span.
            best_pair[is_idle] = -1
            best_probability[is_idle] = -1.0

        # A span begins at each step whose pair is not that of the step before.
        changes = np.flatnonzero(np.diff(best_pair)) + 1
        borders = [0, *changes.tolist(), len(best_pair)]
        for start, stop in pairwise(borders):
            mean = float(best_probability[start:stop].mean())
            # A product may be rounded down: 3 * 0.7 gives a little less than 2.1.
            is_long = (stop - start) * settings.stride >= settings.min_seconds - 1e-9
            if is_long and mean >= settings.threshold:
                # The borders count from the beginning of the undamaged stretch.
                spans.append(
                    ActionSpan(
                        start=stretch_start + start,
                        stop=stretch_start + stop,
                        pair=int(best_pair[start]),
                        probability=mean,
                    )
                )
    return spans


def moving_mean(rows: np.ndarray, reach: int) -> np.ndarray:
    """Average each row with the `reach` rows on both sides of it, or fewer at the ends.

    Args:
        rows: [N, P].
        reach: Number of rows on each side.

    Returns:
        float64 [N, P].
    """
    row_numbers = np.arange(len(rows))
    low = np.maximum(row_numbers - reach, 0)
    high = np.minimum(row_numbers + reach + 1, len(rows))
    # Row i of `sums` adds up the first i rows, so that a difference of two is the sum between them.
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=float)])
    return (sums[high] - sums[low]) / (high - low)[:, None]


@dataclass(frozen=True)
class Segment:
    """One action on a timeline. Times are in seconds of a player's clock, probabilities 0 to 1.

    The probability of the pair is `ActionSpan.probability`. The probabilities of verb and noun are
    means over the segment's clips.
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
        """The names of verb and noun, such as `take spoon`."""
        return f"{self.verb_name} {self.noun_name}"


@dataclass(frozen=True)
class Timeline:
    """The timeline of one video: its actions, its damage, and the best classes of each clip.

    Attributes:
        video: Name of the video, without suffix.
        fps: Mean frames per second.
        duration: Seconds until the last frame ends.
        damaged: Damaged stretches in seconds.
        segments: The actions, in order.
        clips: One dict per step: `start`, `stop` (seconds) and either `damaged: True` or `actions`,
            `verbs` and `nouns`, each with the `TOP` most probable.
        made_from: Digest of the model, state of the video file, settings.
        first_frame_seconds: When a player shows the first frame. All times are those of a player's
            clock.
        judged: How the scan checked for damage, as in `ScanRow`; "" if nothing is recorded.
    """

    video: str
    fps: float
    duration: float
    damaged: list[tuple[float, float]]
    segments: list[Segment]
    clips: list[dict[str, Any]]
    made_from: Mapping[str, Any]
    first_frame_seconds: float = 0.0
    judged: str = ""


def build_timeline(
    video: str,
    fps: float,
    plan: ClipPlan,
    predictions: Predictions,
    names: ClassNames,
    settings: TimelineSettings,
    made_from: Mapping[str, Any],
    first_frame_seconds: float = 0.0,
    background_scores: np.ndarray | None = None,
    background_threshold: float = 1.0,
    judged: str = "",
) -> Timeline:
    """Build the timeline of a video from the predictions of its clips.

    Args:
        video: Name of the video.
        fps: Mean frames per second.
        plan: The clips, one for each step.
        predictions: Predictions of the clips of undamaged steps, in order.
        names: Class names.
        settings: How steps are merged into segments.
        made_from: What the timeline depends on, to record in it.
        first_frame_seconds: When a player shows the first frame.
        background_scores: The background scores of the undamaged steps, 0 to 1.
        background_threshold: As for `merge`.
        judged: How the scan checked for damage, as in `ScanRow`.
    """
    # When each step begins, and the last one ends. The plan has 0 at the first frame, but the clock
    # of a player may begin earlier.
    late = first_frame_seconds
    times = [late + plan.seconds(step) for step in range(len(plan.undamaged) + 1)]

    # The probabilities at each step.
    classes_of_pair = [(verb, noun) for verb, noun, _ in predictions.pairs]
    verb_log_probs, noun_log_probs = marginals(predictions)
    pairs = _for_all_steps(predictions.log_probs, plan.undamaged)
    verbs = _for_all_steps(verb_log_probs, plan.undamaged)
    nouns = _for_all_steps(noun_log_probs, plan.undamaged)
    score_of_step = None
    if background_scores is not None:
        # A damaged step is in no segment either, so it counts as one in which nothing happens.
        score_of_step = np.ones(len(plan.undamaged))
        score_of_step[plan.undamaged] = background_scores

    # The actions.
    segments = []
    for span in merge(pairs, plan.undamaged, settings, score_of_step, background_threshold):
        verb, noun = classes_of_pair[span.pair]
        steps = slice(span.start, span.stop)
        segments.append(
            Segment(
                start=times[span.start],
                stop=times[span.stop],
                verb=verb,
                noun=noun,
                pair=span.pair,
                verb_name=names("verb", verb),
                noun_name=names("noun", noun),
                probability=span.probability,
                verb_probability=float(verbs[steps, verb].mean()),
                noun_probability=float(nouns[steps, noun].mean()),
            )
        )

    # The best classes of each clip.
    clips: list[dict[str, Any]] = []
    for step, undamaged in enumerate(plan.undamaged.tolist()):
        clip: dict[str, Any] = {"start": times[step], "stop": times[step + 1]}
        clips.append(clip)
        if not undamaged:
            clip["damaged"] = True
            continue
        if score_of_step is not None:
            clip["background"] = float(score_of_step[step])
        clip["actions"] = _best_actions(pairs[step], classes_of_pair, names)
        clip["verbs"] = _best_classes("verb", verbs[step], names)
        clip["nouns"] = _best_classes("noun", nouns[step], names)

    return Timeline(
        video=video,
        fps=fps,
        # The last time is where the video ends.
        duration=times[-1],
        damaged=[(late + start, late + stop) for start, stop in plan.damaged],
        segments=segments,
        clips=clips,
        made_from=made_from,
        first_frame_seconds=first_frame_seconds,
        judged=judged,
    )


def _for_all_steps(log_probs: torch.Tensor, undamaged: np.ndarray) -> np.ndarray:
    """Make probabilities for all steps, float32 [N, classes], from rows of the undamaged steps.

    A damaged step has zeros.
    """
    rows = np.zeros((len(undamaged), log_probs.shape[1]), np.float32)
    rows[undamaged] = log_probs.exp().numpy()
    return rows


def _best_classes(task: str, row: np.ndarray, names: ClassNames) -> list[dict[str, Any]]:
    """List the `TOP` most probable verbs or nouns of a clip, by its row of their probabilities."""
    return [
        {task: class_id, "name": names(task, class_id), "probability": chance}
        for class_id, chance in _best(row)
    ]


def _best_actions(
    row: np.ndarray, classes_of_pair: Sequence[tuple[int, int]], names: ClassNames
) -> list[dict[str, Any]]:
    """List the `TOP` most probable actions of a clip, by its row of probabilities of the pairs."""
    actions = []
    for pair, chance in _best(row):
        verb, noun = classes_of_pair[pair]
        name = f"{names('verb', verb)} {names('noun', noun)}"
        actions.append({"verb": verb, "noun": noun, "name": name, "probability": chance})
    return actions


def _best(row: np.ndarray) -> list[tuple[int, float]]:
    """List the `TOP` most probable columns of a row and their probabilities, with four decimals."""
    best = np.argsort(-row, kind="stable")[:TOP]
    return [(int(number), round(float(row[number]), 4)) for number in best]


def write_timeline(timeline: Timeline, tsv: str | os.PathLike) -> None:
    """Write all files of a timeline, each atomically, and the TSV last.

    Args:
        timeline: The timeline.
        tsv: The table `{video}.tsv`; the other files are in its folder (`SUFFIXES`).
    """
    contents = {
        ".json": _json_text(as_json(timeline)),
        ".vtt": as_vtt(timeline),
        ".activitynet.json": _json_text(as_activitynet(timeline)),
    }
    for suffix, content in contents.items():
        write_text(sibling(tsv, suffix), content)
    write_table(tsv, COLUMNS, _rows(timeline))


def _json_text(content: dict[str, Any]) -> str:
    """Write the content of a JSON file as text."""
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def sibling(tsv: str | os.PathLike, suffix: str) -> Path:
    """Return the path of one more file of the timeline: `a.tsv` and `.vtt` give `a.vtt`."""
    path = Path(tsv)
    return path.with_name(path.name.removesuffix(".tsv") + suffix)


def as_json(timeline: Timeline) -> dict[str, Any]:
    """Make the content of the JSON file: all of a timeline, with the best classes of every clip.

    `first_picture` is a time in seconds, and `judged` says how the scan checked for damage.
    """
    return {
        "format": FORMAT,
        "video": timeline.video,
        "fps": round(timeline.fps, 6),
        "duration": round(timeline.duration, 3),
        "first_picture": round(timeline.first_frame_seconds, 3),
        "judged": timeline.judged,
        "made_from": dict(timeline.made_from),
        "damaged": [[round(second, 3) for second in stretch] for stretch in timeline.damaged],
        "segments": [
            {"action": segment.action, **_rounded(asdict(segment))} for segment in timeline.segments
        ],
        "clips": [_rounded(clip) for clip in timeline.clips],
    }


def as_activitynet(timeline: Timeline) -> dict[str, Any]:
    """Make the content of the ActivityNet file: the actions as segments and as predictions.

    A `label_id` is the number of the pair in the model. `database` is what ActionFormer
    (`load_gt_seg_from_json`) and OpenTAD read as segments of a video; `results` is what OpenTAD's
    evaluators read as predictions, with scores.
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
    timelines: Sequence[str | os.PathLike], out: str | os.PathLike, levels: Mapping[str, int]
) -> None:
    """Write the timelines of a split in one file, as the official tools for detection read it.

    Format: epic-kitchens/C2-Action-Detection at 4835721,
    EvaluationCode/evaluate_detection_json_ek100.py. Times are seconds of the annotation's clock.

    Args:
        timelines: The JSON file of each video's timeline (`as_json`), named after its video_id.
        out: The file to write, results/detections.json.
        levels: The supervision levels `pt`, `tl` and `td`, as for a submission.
    """
    contents = [read_json(path) for path in timelines]
    results = {
        content["video"]: [
            {
                "verb": segment["verb"],
                "noun": segment["noun"],
                "action": f"{segment['verb']},{segment['noun']}",
                "score": segment["probability"],
                "segment": [segment["start"], segment["stop"]],
            }
            for segment in content["segments"]
        ]
        for content in contents
    }
    head: dict[str, Any] = {"version": "0.2", "challenge": "action_detection"}
    head |= {f"sls_{key}": levels[key] for key in ("pt", "tl", "td")}
    write_text(out, json.dumps(head | {"results": results}) + "\n")


def as_vtt(timeline: Timeline) -> str:
    """Make the captions for a player (WebVTT, W3C): the actions and the damaged stretches."""
    cues = [(start, stop, "(damaged)") for start, stop in timeline.damaged]
    for segment in timeline.segments:
        text = f"{segment.action} {100 * segment.probability:.0f} %"
        cues.append((segment.start, segment.stop, text))
    blocks = ["WEBVTT"]
    for start, stop, text in sorted(cues):
        # A name may hold a line break, which would end a cue.
        line = html.escape(" ".join(text.split()), quote=False)
        blocks.append(f"{_clock(start)} --> {_clock(stop)}\n{line}")
    return "\n\n".join(blocks) + "\n"


def _rows(timeline: Timeline) -> Iterator[list[Any]]:
    """Yield the rows of the TSV table: the actions and the damaged stretches, in order of time."""
    rows: list[tuple[Any, ...]] = [
        (
            segment.start,
            segment.stop,
            "action",
            segment.verb,
            segment.noun,
            segment.verb_name,
            segment.noun_name,
            f"{segment.probability:.4f}",
            f"{segment.verb_probability:.4f}",
            f"{segment.noun_probability:.4f}",
        )
        for segment in timeline.segments
    ]
    # A damaged stretch has neither classes nor probabilities, so its other cells are empty.
    empty = [""] * (len(COLUMNS) - len(("start", "stop", "what")))
    rows += [(start, stop, "damaged", *empty) for start, stop in timeline.damaged]
    for start, stop, *cells in sorted(rows, key=lambda row: row[:2]):
        yield [f"{start:.3f}", f"{stop:.3f}", *cells]


def _rounded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Round the floats among the values to four decimals."""
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in fields.items()
    }


def _clock(seconds: float) -> str:
    """Write a time as WebVTT does: 3661.5 is `01:01:01.500`."""
    minutes, milliseconds = divmod(round(1000 * seconds), 60 * 1000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"
