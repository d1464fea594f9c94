import re
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.segments.annotations import frames_between, index_segments
from epic100.segments.cleaning import clean_split, salvage_lines, salvage_table
from epic100.segments.drop_reasons import DropReason, is_damage, kind_of
from epic100.video.scan_table import ScanRow
from epic100.video.sheet import Video
from support.made_index import index_at

RATE = 60000 / 1001


def annotations(rows):
    """Annotations from (video_id, start_seconds, stop_seconds)."""
    return pd.DataFrame(
        {
            "narration_id": [f"{row[0]}_{i}" for i, row in enumerate(rows)],
            "video_id": [row[0] for row in rows],
            "start_seconds": [float(row[1]) for row in rows],
            "stop_seconds": [float(row[2]) for row in rows],
            "verb": np.arange(len(rows)) % 97,
            "noun": np.arange(len(rows)) % 300,
        }
    )


def one_video(*spans, fps=RATE, duration=100.0, video_id="P01_01"):
    videos = {video_id: Video(video_id, video_id[:3], "train", fps, duration)}
    return annotations([(video_id, *span) for span in spans]), videos


def scanned(damaged=(), fps=RATE, pictures=6000, video_id="P01_01", **kwargs):
    """A row of the scan table, by video_id."""
    status = "damaged" if damaged else "ok"
    row = {"status": status, "damaged": list(damaged), "reason": "made so", **kwargs}
    return {video_id: ScanRow(video_id, fps=fps, pictures=pictures, **row)}


def no_index(video_id):
    raise AssertionError("only a video of variable rate needs its index")


def run(table, videos, rows, policy="segment", index_of=no_index):
    """The kept segments, the dropped ones with their reasons, and the messages about re-timing."""
    found, retimed = clean_split(index_segments(table, videos), videos, rows, index_of)
    found["reason"] = found[policy]
    kept = found["reason"] == ""
    return found[kept], found[~kept], retimed


def frames(kept):
    return kept[["start", "stop"]].values.tolist()


def random_split(seed):
    """Some videos of all states, segments at random places, some past the video's end."""
    rng = np.random.default_rng(seed)
    videos, rows, spans = {}, {}, []
    for number in range(8):
        video_id = f"P{number:02d}_{rng.choice(['01', '101'])}"
        fps = float(rng.choice([RATE, 50.0, RATE / 2]))
        videos[video_id] = Video(video_id, video_id[:3], "train", fps, 40.0)
        pictures = int(40 * fps) - int(rng.integers(0, 30))
        edges = np.unique(rng.integers(0, pictures + 1, 2 * rng.integers(0, 5))).tolist()
        rows |= scanned(list(zip(edges[::2], edges[1::2], strict=False)), fps, pictures, video_id)
        if number == 6:
            rows[video_id] = ScanRow(video_id, "missing", reason="no file")
        starts = np.round(rng.uniform(0, 41, 40), 2)
        spans += [(video_id, s, s + round(rng.exponential(1.5) + 0.01, 2)) for s in starts]
    return annotations([spans[i] for i in rng.permutation(len(spans))]), videos, rows


def judged_slowly(segment, row, policy):
    """The range (start, stop) that is kept, or None, found by a look at each frame."""
    bad = {frame for start, stop in row.damaged for frame in range(start, stop)}
    own = [frame for frame in range(segment.start, segment.stop) if frame < row.pictures]
    lost = not own or bad & set(own) or (policy == "video" and row.status == "damaged")
    return None if lost or row.status == "missing" else (own[0], own[-1] + 1)


@pytest.mark.parametrize("policy", ["segment", "video"])
@pytest.mark.parametrize("seed", range(6))
def test_segments_are_kept_and_dropped_as_by_looking_at_every_frame(seed, policy):
    table, videos, rows = random_split(seed)
    segments = index_segments(table, videos)
    kept, dropped, retimed = run(table, videos, rows, policy)
    expected = {}
    for segment, video_id in zip(segments.itertuples(), table["video_id"], strict=True):
        frames = judged_slowly(segment, rows[video_id], policy)
        if frames:
            expected[segment.narration_id] = (*frames, segment.verb, segment.noun)
    columns = ["start", "stop", "verb", "noun"]
    found = dict(
        zip(kept["narration_id"], kept[columns].itertuples(index=False, name=None), strict=True)
    )
    assert found == expected and list(found) == list(expected)
    everything = sorted([*kept["narration_id"], *dropped["narration_id"]])
    assert everything == sorted(segments["narration_id"]) and len(dropped) > 20
    assert (dropped["reason"] != "").all() and not retimed


def test_a_drop_names_the_damage_that_it_touches():
    table, videos = one_video((1, 2), (9, 11), (29, 31), (99.9, 100.2), (101, 102))
    rows = scanned([(10, 20), (598, 600), (1800, 1801), (5990, 6000)])
    kept, dropped, _ = run(table, videos, rows)
    assert kept["narration_id"].tolist() == ["P01_01_0"]
    assert dropped.set_index("narration_id")["reason"].to_dict() == {
        "P01_01_1": "touches damaged frames 598-600 (made so)",
        "P01_01_2": "touches damaged frames 1800-1801 (made so)",
        "P01_01_3": "touches damaged frames 5990-6000 (made so)",
        "P01_01_4": "starts after the video's end (frame 6000)",
    }


@pytest.mark.parametrize("measured", [30.0, 25.0, RATE / 2, 90.0, 59.0])
def test_a_file_of_another_rate_than_the_sheet_s_is_re_timed_and_said_so(measured):
    starts = np.round(np.random.default_rng(int(measured)).uniform(0, 99, 30), 2)
    table, videos = one_video(*[(s, s + 0.75) for s in starts])
    pictures = int(100 * measured)
    kept, dropped, retimed = run(table, videos, scanned(fps=measured, pictures=pictures))
    start, stop = frames_between(table["start_seconds"], table["stop_seconds"], measured)
    assert frames(kept) == np.stack([start, np.minimum(stop, pictures)], axis=1).tolist()
    assert dropped.empty
    assert retimed == [
        f"P01_01: 30 segments re-timed, the file has {measured:.4f} fps, the sheet says 59.9401"
    ]


@pytest.mark.parametrize("damaged, kept", [((650, 660), 1), ((299, 300), 0)])
def test_damage_is_looked_for_at_the_re_timed_frames(damaged, kept):
    # The segment has frames 600-720 by the sheet, but 250-300 in the file.
    table, videos = one_video((10, 12))
    assert len(run(table, videos, scanned([damaged], fps=25.0, pictures=2500))[0]) == kept


@pytest.mark.parametrize("drift, retimed", [(0.004, 0), (-0.004, 0), (0.006, 1)])
def test_a_rate_that_drifts_by_less_than_half_a_frame_is_the_sheet_s(drift, retimed):
    table, videos = one_video((10, 12), (90, 91))
    assert len(run(table, videos, scanned(fps=RATE + drift))[2]) == retimed


def test_a_video_with_one_picture_left_keeps_the_sheet_s_clock_and_loses_its_segments():
    table, videos = one_video((0, 1), (5, 6), (50, 60))
    kept, dropped, retimed = run(table, videos, scanned([(1, 6000)], fps=0.0))
    assert kept.empty and not retimed
    assert (dropped["reason"] == "touches damaged frames 1-6000 (made so)").all()


def test_a_video_of_variable_rate_is_timed_through_its_table_of_times():
    index = index_at(np.cumsum(np.random.default_rng(0).integers(1, 9, 800)), Fraction(1, 100))
    table, videos = one_video((0.5, 1.25), (7, 9), (20, 20.01))
    rows = scanned(fps=index.fps, pictures=800, timing="variable")
    kept, dropped, retimed = run(table, videos, rows, index_of={"P01_01": index}.get)
    expected = index.frames_between(table["start_seconds"], table["stop_seconds"])
    assert frames(kept) == np.stack(expected, axis=1).tolist() and dropped.empty
    assert retimed == ["P01_01: 3 segments re-timed, its pictures are not evenly spaced"]


def test_a_video_that_nobody_knows_is_one_error():
    with pytest.raises(EpicError, match="video P01_01 is in the annotations, but no scan table"):
        run(*one_video((0, 1)), {})


def test_a_split_without_segments_stays_one():
    table, videos = one_video()
    assert [len(part) for part in run(table, videos, scanned())] == [0, 0, 0]


def test_each_participant_is_counted_under_both_policies_and_absent_videos_are_no_damage():
    out = DropReason.EXCLUDED.sentence("exclude")
    found = pd.DataFrame(
        {
            "path": ["P22/P22_01.MP4"] * 5
            + ["P22/P22_02.MP4"] * 5
            + ["K_1/01.MP4"] * 2
            + ["P02/P02_01.MP4"],
            "segment": ["touches damaged frames 1-2 (x)"]
            + [""] * 7
            + ["video missing", out, "video missing", "", out],
            "video": ["video damaged: x"] * 8 + ["video missing", out] + ["video missing", "", out],
        }
    )
    table = salvage_table(found, {"P22_02", "P02_01"})
    both = "video missing, participant left out by the config"
    assert table.to_dict("split")["data"] == [
        ["K_1", 2, 1, 1, 0, 1, "video missing"],
        ["P02", 1, 0, 0, 0, 1, "participant left out by the config"],
        ["P22", 10, 7, 0, 3, 2, both],
    ]
    assert salvage_lines(table) == [
        "P22: 7 of 8 segments kept (policy segment); dropping whole videos would keep 0",
        "K_1: 1 of 2 segments left out: video missing",
        "P02: 1 of 1 segments left out: participant left out by the config",
        "P22: 2 of 10 segments left out: video missing, participant left out by the config",
        "all: 8 of 13 segments kept; dropping whole videos would keep 1",
        "3 of the segments kept are of videos judged by their decoder only: spoilt bits may go "
        "unseen",
    ]


# The last field says whether it is damage. dropped.tsv files hold these sentences, so they must not
# change.
SENTENCES = [
    (
        DropReason.EXCLUDED,
        ("exclude",),
        "participant left out by the config (participants: exclude)",
        False,
    ),
    (DropReason.VIDEO_MISSING, ("no file a.MP4",), "video missing", False),
    (DropReason.VIDEO_UNREADABLE, ("cannot open: {}",), "video unreadable: cannot open: {}", True),
    (DropReason.VIDEO_DAMAGED, ("3 errors",), "video damaged: 3 errors", True),
    (
        DropReason.HELD_BACK,
        ("P01_02", "it lasts 5 s"),
        "video held back: P01_02: it lasts 5 s; to take it: `videos: accept: [P01_02]`",
        True,
    ),
    (DropReason.AFTER_THE_END, (70,), "starts after the video's end (frame 70)", True),
    (DropReason.DAMAGED_FRAMES, (3, 9, "x (1)"), "touches damaged frames 3-9 (x (1))", True),
]


@pytest.mark.parametrize("reason, details, sentence, harmed", SENTENCES)
def test_each_kind_has_its_sentence_and_is_known_again_by_it(reason, details, sentence, harmed):
    assert reason.sentence(*details) == sentence
    assert kind_of(sentence) == reason.kind == re.sub(r"[\d(:].*", "", sentence).strip()
    assert is_damage(sentence) == is_damage(reason.kind) == harmed


def test_no_kind_is_taken_for_another_and_an_unknown_one_counts_as_damage():
    kinds = [*(reason.kind for reason in DropReason), "bitten by a dog 3 times"]
    assert list(DropReason) == [reason for reason, *_ in SENTENCES]
    assert [kind_of(kind) for kind in kinds] == kinds and len(set(kinds)) == len(kinds)
    assert is_damage(kinds[-1])
