"""The demo's model on whole videos, against the segments that were filmed."""

import json

import pandas as pd
import pytest

from support.checkout import epic100
from support.tables import rows_of

# Both are in seconds. A clip is about as long as the shortest segment that counts.
STRIDE, SHORTEST = 0.2, 0.8
# They are videos of val, and a part of the last one is damaged.
VIDEOS = ("P01_05", "P06_101", "P22_03")


@pytest.fixture(scope="module")
def seen(demo, tmp_path_factory):
    """The JSON of each video's timeline, made by one call."""
    out = tmp_path_factory.mktemp("seen")
    films = [demo / f"videos/{name.split('_')[0]}/{name}.MP4" for name in VIDEOS]
    epic100(
        "predict", *films, "--out", out, "--model", demo / "results/model.pth", "--stride", STRIDE
    )
    return {name: json.loads((out / f"{name}.json").read_text()) for name in VIDEOS}


@pytest.fixture(scope="module")
def filmed(demo):
    """(start, stop, action) of all segments of each video."""
    found = {name: [] for name in VIDEOS}
    for row in rows_of(demo / "annotations/EPIC_100_validation.csv", ","):
        if row["video_id"] in found:
            ends = (pd.Timedelta(row[f"{end}_timestamp"]) for end in ("start", "stop"))
            span = [end.total_seconds() for end in ends]
            found[row["video_id"]].append((*span, f"{row['verb']} {row['noun']}"))
    return found


def common(a, b):
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))


def overlap(a, b):
    return common(a, b) / (max(a[1], b[1]) - min(a[0], b[0]))


def test_actions_that_stand_alone_are_found_and_named(seen, filmed):
    """F1 at IoU 0.5 over segments of `SHORTEST` or longer that overlap no other and no damage.

    Each found action is matched, in order, with the segment that it overlaps most. One without a
    match is wrong, unless half of it or more is over the other segments or damage.
    """
    matched = wrong = wanted = right = 0
    for name in VIDEOS:
        every, damaged = filmed[name], seen[name]["damaged"]
        alone = [
            s
            for s in every
            if s[1] - s[0] >= SHORTEST
            and not any(common(s, d) for d in damaged)
            and not any(common(s, other) for other in every if other is not s)
        ]
        rest = [*damaged, *(s for s in every if s not in alone)]
        wanted += len(alone)
        for found in seen[name]["segments"]:
            span = found["start"], found["stop"]
            best = max(alone, key=lambda s: overlap(span, s), default=None)
            if best is not None and overlap(span, best) >= 0.5:
                alone.remove(best)
                matched += 1
                right += found["action"] == best[2]
            else:
                wrong += sum(common(span, s) for s in rest) < 0.5 * (span[1] - span[0])
    f1 = 2 * matched / (matched + wrong + wanted)
    print(f"{wanted=} {matched=} {wrong=} {right=} {f1=:.3f}")
    assert wanted >= 10 and f1 >= 0.7
    # The model is of the short training.
    assert right >= 0.6 * matched
