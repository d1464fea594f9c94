"""Timelines of the demo's model are compared with the segments that were filmed."""

import json

import pandas as pd
import pytest

from support.checkout import epic100, rows_of

# Shorter segments, in seconds, do not count. A clip is about as long as this one.
SHORTEST = 0.8
# These are videos of val, and a part of the last one is damaged.
VIDEOS = ("P01_05", "P06_101", "P22_03")


@pytest.fixture(scope="module")
def timelines(demo, tmp_path_factory):
    """The JSON of each video's timeline, made by one call."""
    out = tmp_path_factory.mktemp("timelines")
    films = [demo / f"videos/{name.split('_')[0]}/{name}.MP4" for name in VIDEOS]
    epic100("predict", *films, "--out", out, "--model", demo / "results/model.pth", "--stride", 0.2)
    return {name: json.loads((out / f"{name}.json").read_text()) for name in VIDEOS}


@pytest.fixture(scope="module")
def filmed(demo):
    """The segments of each video, as (start, stop, action)."""
    found = {name: [] for name in VIDEOS}
    for row in rows_of(demo / "annotations/EPIC_100_validation.csv", ","):
        if row["video_id"] in found:
            start = pd.Timedelta(row["start_timestamp"]).total_seconds()
            stop = pd.Timedelta(row["stop_timestamp"]).total_seconds()
            found[row["video_id"]].append((start, stop, f"{row['verb']} {row['noun']}"))
    return found


def common(a, b):
    """Compute how many seconds two spans (start, stop, ...) have in common."""
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))


def iou(a, b):
    """Compute the intersection over union of two spans that may overlap."""
    return common(a, b) / (max(a[1], b[1]) - min(a[0], b[0]))


def apart(segments, damaged):
    """Select the segments of `SHORTEST` or longer that overlap no other segment and no damage."""
    return [
        segment
        for segment in segments
        if segment[1] - segment[0] >= SHORTEST
        and not any(common(segment, stretch) for stretch in damaged)
        and sum(common(segment, other) > 0 for other in segments) == 1
    ]


def test_actions_without_overlap_are_found_with_names(timelines, filmed):
    expected = 0
    is_named_right = []
    for name, timeline in timelines.items():
        found = [(row["start"], row["stop"], row["action"]) for row in timeline["segments"]]
        for segment in apart(filmed[name], timeline["damaged"]):
            expected += 1
            best = max(found, key=lambda action: iou(segment, action))
            if iou(segment, best) >= 0.5:
                is_named_right.append(best[2] == segment[2])
    assert expected >= 10 and len(is_named_right) >= 0.7 * expected
    # The model has had the short training.
    assert sum(is_named_right) >= 0.6 * len(is_named_right)
