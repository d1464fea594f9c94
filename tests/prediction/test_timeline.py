"""A timeline from its clips to its files, and the background score learned from gaps."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.data.segment_list import read_segments, write_segments
from epic100.prediction.clip_outputs import clip_frames, place_clips, scanned_video
from epic100.prediction.timeline import (
    SUFFIXES,
    Segment,
    Timeline,
    merge,
    sibling,
    write_detections,
    write_timeline,
)
from epic100.prediction.timeline_model import (
    SHORTEST_GAP,
    Background,
    ModelInUse,
    best_threshold,
    fit_background,
    learn_background,
    read_background,
)
from epic100.prediction.whole_videos import make_timelines
from epic100.settings.prediction import ExportSettings, PredictSettings, TimelineSettings
from epic100.video.scan_table import read_scan_table
from support.scanned import index_at

MILLISECOND = Fraction(1, 1000)
# The index of a video of 25 frames a second that lasts 10 s.
STEADY = index_at(range(0, 10_000, 40), MILLISECOND)


def test_each_step_s_clip_surrounds_its_middle():
    placed = place_clips(STEADY, [], 0.5, 20)
    assert len(placed.start) == 20 and placed.undamaged.all() and placed.duration == 10
    assert (placed.stop - placed.start == 20).all()
    assert placed.start[0] == 0 and placed.stop[-1] == 250
    middle = (placed.start + placed.stop)[2:-2] / 2 / 25
    assert np.abs(middle - (np.arange(2, 18) + 0.5) / 2).max() <= 0.04


@pytest.mark.parametrize(
    # A `1` is a step with a clip, and a `0` one without. Each clip has `length` frames.
    "damaged, stride, frames, steps, seconds, length",
    [
        pytest.param(
            [(100, 120)], 0.5, 20, "11111111001111111111", [(4.0, 4.8)], 20, id="in the middle"
        ),
        # The 25 frames between are fewer than the 60 of a clip, so they are one clip.
        pytest.param(
            [(0, 100), (125, 250)],
            0.5,
            60,
            "00000000110000000000",
            [(0, 4), (5, 10)],
            25,
            id="on both sides",
        ),
        pytest.param(
            [(240, 300)], 1.0, 20, "111111111000", [(9.6, 12)], 20, id="50 frames are cut off"
        ),
    ],
)
def test_no_clip_touches_damage(damaged, stride, frames, steps, seconds, length):
    placed = place_clips(STEADY, damaged, stride, frames)
    assert "".join("01"[int(step)] for step in placed.undamaged) == steps
    assert placed.duration == pytest.approx(len(steps) * stride)
    assert placed.damaged == [pytest.approx(stretch) for stretch in seconds]
    starts, stops = placed.start[placed.undamaged], placed.stop[placed.undamaged]
    assert (stops - starts == length).all()
    assert all(((stops <= first) | (starts >= after)).all() for first, after in damaged)


def seconds_of_clips(frame_numbers, damage):
    """Place clips in a video with these of 300 frames; return [start, stop], seconds, and steps."""
    index = index_at((frame_numbers * 40).tolist(), MILLISECOND)
    start, stop = map(int, index.frames_between(*damage))
    placed = place_clips(index, [(start, stop)], 0.5, 30)
    times = np.append(index.times, index.times[-1] + 0.04)
    return np.stack([times[placed.start], times[placed.stop]]), placed.undamaged


def test_a_variable_rate_keeps_a_clip_s_duration():
    shown = np.sort(np.random.default_rng(1).choice(300, 180, replace=False))
    shown[[0, -1]] = 0, 299
    seconds, steps = seconds_of_clips(np.arange(300), damage=(3.0, 4.0))
    variable_seconds, variable_steps = seconds_of_clips(shown, damage=(3.0, 4.0))
    # The damage lasts two steps, and at a variable rate it can touch one more.
    both = steps & variable_steps
    assert both.sum() >= len(both) - 3
    # Where a frame is left out, a clip begins with the one before it and ends after the next.
    difference = np.abs(seconds - variable_seconds)[:, both]
    assert difference.max() <= 0.04 * np.diff(shown).max() and difference.mean() <= 0.05


@pytest.mark.parametrize("times", [[0], [0, 0]], ids=["one frame", "two at once"])
def test_a_video_without_duration_is_rejected(times):
    with pytest.raises(EpicError, match="frame in it; expected a video, with two or more"):
        place_clips(index_at(times, MILLISECOND), [], 0.5, 20)


DENSE = {"type": "SampleFrames", "clip_len": 13, "frame_interval": 6}


@pytest.mark.parametrize(
    "step, fps, window, frames",
    [
        # A dense clip spans 13 x 6 frames at any rate, or twice as many of 60 for 30 a second.
        pytest.param(DENSE, 60, None, 13 * 6, id="dense"),
        pytest.param(DENSE, 25, None, 13 * 6, id="dense at 25 a second"),
        pytest.param(DENSE | {"target_fps": 30}, 60, None, 2 * 13 * 6, id="dense at its own rate"),
        pytest.param(DENSE, 60, 3.0, 3 * 60, id="three seconds by a setting"),
        # Frames that are spread over a segment get a clip of two seconds.
        pytest.param({"type": "UniformSample", "clip_len": 16}, 50, None, 2 * 50, id="uniform"),
        pytest.param(
            {"type": "SampleFrames", "clip_len": 1, "num_clips": 8}, 50, None, 2 * 50, id="TSN"
        ),
    ],
)
def test_a_clip_spans_the_training_s_time(step, fps, window, frames):
    assert clip_frames([step], fps, window) == frames


BARE = TimelineSettings(stride=0.5, smooth=0, threshold=0, min_seconds=0)
SMOOTH = BARE.model_copy(update={"smooth": 1.0})
SURE = BARE.model_copy(update={"threshold": 0.5, "min_seconds": 1.0})


@pytest.mark.parametrize(
    # A letter is the best pair of a clip, and `x` is damage. Segments are apart by a point.
    "settings, probability, clips, segments",
    [
        pytest.param(BARE, 0.8, "aabbbc", "aa.bbb.c", id="neighbours with one pair"),
        pytest.param(BARE, 0.8, "aaxxaab", "aa.xx.aa.b", id="damage ends a segment"),
        pytest.param(BARE, 0.8, "xxx", "xxx", id="damage alone"),
        pytest.param(SMOOTH, 0.8, "aaabaaa", "aaaaaaa", id="one other clip is noise"),
        pytest.param(SMOOTH, 0.8, "aaaxbbb", "aaa.x.bbb", id="no mean over damage"),
        pytest.param(SURE, 0.8, "aabccc", "aa.x.ccc", id="a short one is left out"),
        pytest.param(SURE, 0.4, "aabccc", "xxxxxx", id="an improbable one is left out"),
    ],
)
def test_clips_become_segments(settings, probability, clips, segments):
    # The other two pairs share the rest of the probability.
    rest = (1 - probability) / 2
    rows = np.array([[probability if clip == pair else rest for pair in "abc"] for clip in clips])
    runs = merge(rows, np.array([clip != "x" for clip in clips]), settings)
    shown = ["x"] * len(clips)
    for run in runs:
        shown[run.start : run.stop] = "abc"[run.pair] * (run.stop - run.start)
    assert "".join(shown) == segments.replace(".", "")
    assert len(runs) == sum("x" not in part for part in segments.split("."))


def test_a_segment_s_probability_averages_its_steps():
    first, second = merge(np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9]]), np.ones(3, bool), BARE)
    assert (round(first.probability, 6), round(second.probability, 6)) == (0.8, 0.9)


SEGMENTS = [
    Segment(0.0, 1.5, 0, 1, 0, "take", "spoon", 0.9123456, 0.95, 0.93),
    Segment(3661.25, 3663.0, 9, 5, 4, "pour", "pan <hot> & lid", 0.5, 0.6, 0.7),
]
CLIPS = [
    {"start": 0.0, "stop": 0.5, "actions": [{"verb": 0, "noun": 1, "probability": 0.9}]},
    {"start": 2.0, "stop": 2.5, "damaged": True},
]
TSV = """\
start stop what verb noun verb_name noun_name probability verb_probability noun_probability
0.000 1.500 action 0 1 take spoon 0.9123 0.9500 0.9300
2.000 2.750 damaged -- -- -- -- -- -- --
3661.250 3663.000 action 9 5 pour pan_<hot>_&_lid 0.5000 0.6000 0.7000
"""
VTT = """\
WEBVTT

00:00:00.000 --> 00:00:01.500
take spoon 91 %

00:00:02.000 --> 00:00:02.750
(damaged)

01:01:01.250 --> 01:01:03.000
pour pan &lt;hot&gt; &amp; lid 50 %
"""


def test_the_timeline_s_files_have_actions_and_damage(tmp_path):
    """The keys of the ActivityNet file are those that these functions read.

    ActionFormer 18e5860, libs/utils/metrics.py: `load_gt_seg_from_json`. OpenTAD 5948e38,
    opentad/evaluations/mAP.py: `_import_ground_truth`, `_import_prediction`; without a rate in its
    config, opentad/datasets/anet.py takes `frame` / `duration`.
    """
    tsv, damaged, made_from = tmp_path / "my film.v2.tsv", [(2.0, 2.75)], {"model": "ab"}
    timeline = Timeline("my film.v2", 29.97, 3700.0, damaged, SEGMENTS, CLIPS, made_from)
    write_timeline(timeline, tsv)
    assert sorted(tmp_path.iterdir()) == sorted(sibling(tsv, suffix) for suffix in SUFFIXES)
    table = TSV.replace(" ", "\t").replace("_<hot>_&_", " <hot> & ").replace("--", "")
    assert tsv.read_text(encoding="utf-8") == table
    assert sibling(tsv, ".vtt").read_text(encoding="utf-8") == VTT
    values = (0.0, 1.5, 0, 1, 0, "take", "spoon", 0.9123, 0.95, 0.93)
    content = json.loads(sibling(tsv, ".json").read_text(encoding="utf-8"))
    first, second = content.pop("segments")
    assert first == dict(zip(["action", *vars(SEGMENTS[0])], ["take spoon", *values], strict=True))
    assert second["action"] == "pour pan <hot> & lid"
    assert content == {
        "format": "epic100 timeline 1",
        "video": "my film.v2",
        "fps": 29.97,
        "duration": 3700.0,
        "first_picture": 0.0,
        "judged": "",
        "made_from": made_from,
        "damaged": [[2.0, 2.75]],
        "clips": CLIPS,
    }
    rows = [
        {"label": "take spoon", "label_id": 0, "segment": [0, 1.5], "score": 0.9123},
        {"label": second["action"], "label_id": 4, "segment": [3661.25, 3663], "score": 0.5},
    ]
    entry = {"subset": "predicted", "duration": 3700.0, "fps": 29.97, "frame": 110889}
    assert json.loads(sibling(tsv, ".activitynet.json").read_text(encoding="utf-8")) == {
        "version": "epic100 timeline 1",
        "database": {"my film.v2": entry | {"annotations": rows}},
        "results": {"my film.v2": rows},
    }


PREDICT = PredictSettings(workers=0, device="cpu")


def test_a_video_has_its_row_and_frame_index(lab):
    table = lab.folder / "results/scan/P01.tsv"
    index = table.with_suffix(".index.npz")
    first, *_, last = [row for row in read_scan_table(table) if row.readable]
    assert first != last
    for row in (first, last):
        video = scanned_video(row.video_id, "P01", lab.root, table, index)
        assert video.row == row and video.index.frames == row.pictures


def learn(lab, model, out, segments="segments"):
    """Learn the background of the lab from a folder of segment lists, and return its file."""
    scans = sorted((lab.folder / "results/scan").glob("*.tsv"))
    learn_background(
        ModelInUse(model),
        out,
        predict=PREDICT,
        root=lab.root,
        scans=list(map(str, scans)),
        segments={s: f"{lab.results}/{segments}/{s}.txt" for s in ("train", "val")},
        clean={s: f"{lab.results}/clean/{s}.txt" for s in ("train", "val")},
        indexes=[str(path.with_suffix(".index.npz")) for path in scans],
    )
    return out


def test_the_background_score_tells_gaps_from_segments():
    rng = np.random.default_rng(0)
    gaps = np.arange(200) < 40
    # The model is unsure of a gap, and mostly sure of the first class for a segment.
    shares = [[8.0] * 4 if gap else [4.0, 0.3, 0.3, 0.3] for gap in gaps]
    rows = torch.from_numpy(np.log([rng.dirichlet(share) for share in shares])).float()
    weights, bias = fit_background(rows[::2], gaps[::2])
    scores = Background("", "", weights, bias).scores(rows[1::2])
    _, gaps_found, segments_kept = best_threshold(scores, gaps[1::2])
    assert gaps_found > 0.9 and segments_kept > 0.9
    # The bias is learned without decay, so the mean over both types is that of the labels.
    learned = Background("", "", weights, bias).scores(rows[::2])
    means = learned[gaps[::2]].mean(), learned[~gaps[::2]].mean()
    assert np.mean(means) == pytest.approx(0.5, abs=0.01)


def test_the_best_threshold_splits_gaps_from_segments():
    scores, gaps = np.array([0.1, 0.9, 0.3]), np.array([False, True, False])
    assert best_threshold(scores, gaps) == (0.6, 1.0, 1.0)


@pytest.mark.parametrize(
    "settings, idle, segments",
    [
        pytest.param(BARE, [0, 0, 0.9, 0.8, 0, 0, 0, 0.6], [(0, 2), (4, 8)], id="two steps"),
        pytest.param(BARE, [1] * 8, [], id="all steps"),
        pytest.param(SMOOTH, [0, 0, 0, 1, 0, 0, 0, 0], [(0, 8)], id="one step is noise"),
    ],
)
def test_idle_steps_are_in_no_segment(settings, idle, segments):
    pairs = np.tile([0.9, 0.1], (8, 1))
    found = merge(pairs, np.ones(8, bool), settings, np.array(idle), 0.7)
    assert [(run.start, run.stop) for run in found] == segments


@pytest.mark.slow
def test_a_timeline_has_no_segment_of_background(lab, model, tmp_path):
    path = learn(lab, model, tmp_path / "background.json")
    assert [*tmp_path.iterdir()] == [path], "shards are left"
    learned = read_background(path, ModelInUse(model).source.digest)
    # Every clip has a score from 0 to 1. So all is background, and then nothing is.
    for threshold, has_segments in ((0.0, False), (1.1, True)):
        path.write_text(json.dumps(vars(replace(learned, threshold=threshold))))
        film, user = lab.videos["P01_02"].path(lab.root), ModelInUse(model, background=path)
        make_timelines([film], user, tmp_path, settings=BARE, predict=PREDICT)
        found = json.loads((tmp_path / "P01_02.json").read_text())
        assert bool(found["segments"]) == has_segments
        assert all(0 <= clip["background"] <= 1 for clip in found["clips"])


@pytest.mark.slow
def test_videos_without_gaps_teach_no_background(lab, model, tmp_path):
    folder = lab.folder / "results/no_gaps"
    folder.mkdir(exist_ok=True)
    for split in ("train", "val"):
        table = read_segments(f"{lab.results}/segments/{split}.txt")
        write_segments(table.assign(stop=table["stop"] + 10**6), folder / f"{split}.txt")
    with pytest.raises(EpicError, match=f"train.txt: 0 gaps of {SHORTEST_GAP} frames or more and "):
        learn(lab, model, tmp_path / "background.json", folder.name)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="list"),
        pytest.param('{"weights": [1]}', id="keys missing"),
        pytest.param(
            json.dumps(vars(Background("epic100 background 1", "another", [0.0], 0.0))),
            id="other model",
        ),
        pytest.param(
            json.dumps(vars(Background("epic100 background 1", "this", ["a"], 0.0))),
            id="text for a weight",
        ),
    ],
)
def test_a_wrong_background_file_is_rejected(text, tmp_path):
    path = tmp_path / "background.json"
    path.write_text(text)
    with pytest.raises(EpicError, match="json: no background of this model .*; expected"):
        read_background(path, "this")


def test_a_split_s_timelines_become_one_file(tmp_path):
    """The keys are those of the official `validate_submission`."""
    action = Segment(1.0, 2.5, 3, 12, 0, "take", "cup", 0.75, 0.9, 0.8)
    for name, segments in (("P01_11", [action]), ("P02_101", [])):
        whole = Timeline(name, 25.0, 10.0, [(4.0, 5.0)], segments, [], {})
        write_timeline(whole, tmp_path / f"{name}.tsv")
    files = [tmp_path / f"{name}.json" for name in ("P01_11", "P02_101")]
    write_detections(files, tmp_path / "detections.json", ExportSettings().sls.model_dump())
    detection = {"verb": 3, "noun": 12, "action": "3,12", "score": 0.75, "segment": [1.0, 2.5]}
    assert json.loads((tmp_path / "detections.json").read_text()) == {
        "version": "0.2",
        "challenge": "action_detection",
        "sls_pt": 2,
        "sls_tl": 3,
        "sls_td": 3,
        "results": {"P01_11": [detection], "P02_101": []},
    }
