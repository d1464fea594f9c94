"""A timeline from its clips to its files: each step has a clip, none touches damage.

Where nothing happens is learned from gaps between segments, with a threshold chosen on val.
"""

import json
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.segments.segment_list import read_segments, write_segments
from epic100.settings import PredictSettings, TimelineSettings
from epic100.timeline.clips import clip_frames, place_clips
from epic100.timeline.content import (
    SUFFIXES,
    Segment,
    Timeline,
    beside,
    merge,
    write_detections,
    write_timeline,
)
from epic100.timeline.model import (
    SHORTEST_GAP,
    Background,
    ModelInUse,
    best_threshold,
    fit,
    learn_background,
    read_background,
)
from epic100.timeline.run import make_timelines
from support.made_index import index_at
from support.tables import rows_of

MILLISECOND = Fraction(1, 1000)
# It has 25 pictures a second for 10 s.
STEADY = index_at(range(0, 10_000, 40), MILLISECOND)


def test_each_step_has_a_clip_around_its_middle_inside_the_video():
    placed = place_clips(STEADY, [], 0.5, 20)
    assert len(placed.start) == 20 and placed.sound.all() and placed.duration == 10
    assert (placed.stop - placed.start == 20).all()
    assert placed.start[0] == 0 and placed.stop[-1] == 250
    middle = (placed.start + placed.stop)[2:-2] / 2 / 25
    assert np.abs(middle - (np.arange(2, 18) + 0.5) / 2).max() <= 0.04


@pytest.mark.parametrize(
    "damaged, stride, frames, sound, seconds, length",
    [
        ([(100, 120)], 0.5, 20, "11111111001111111111", [(4.0, 4.8)], 20),
        # A sound stretch that is shorter than a clip is one clip.
        ([(0, 100), (125, 250)], 0.5, 60, "00000000110000000000", [(0, 4), (5, 10)], 25),
        # A cut file promised pictures up to 300, and has 250.
        ([(240, 300)], 1.0, 20, "111111111000", [(9.6, 12)], 20),
    ],
)
def test_no_clip_touches_damage_and_steps_that_do_have_none(
    damaged, stride, frames, sound, seconds, length
):
    placed = place_clips(STEADY, damaged, stride, frames)
    assert "".join("01"[int(step)] for step in placed.sound) == sound
    assert placed.duration == pytest.approx(len(sound) * stride)
    assert placed.damaged == [pytest.approx(stretch) for stretch in seconds]
    starts, stops = placed.start[placed.sound], placed.stop[placed.sound]
    assert (stops - starts == length).all()
    assert all(((stops <= first) | (starts >= after)).all() for first, after in damaged)


@pytest.mark.parametrize("damage", [None, (3.0, 4.0)])
def test_a_clip_spans_the_same_seconds_at_a_variable_rate_as_at_a_constant_one(damage):
    kept = np.sort(np.random.default_rng(1).choice(300, 180, replace=False))
    kept[[0, -1]] = 0, 299
    placed = {}
    for name, numbers in (("even", np.arange(300)), ("uneven", kept)):
        index = index_at((numbers * 40).tolist(), MILLISECOND)
        damaged = [tuple(map(int, index.frames_between(*damage)))] if damage else []
        found = place_clips(index, damaged, 0.5, 30)
        times = np.append(index.times, index.times[-1] + 0.04)
        placed[name] = np.stack([times[found.start], times[found.stop], found.sound])
    both = placed["even"][2] * placed["uneven"][2] > 0
    assert both.sum() >= len(both) - (3 if damage else 0)
    # Where a picture was dropped, a clip begins with the one before it and ends after the next.
    apart = np.abs(placed["even"] - placed["uneven"])[:2, both]
    assert apart.max() <= 0.04 * np.diff(kept).max() and apart.mean() <= 0.05


@pytest.mark.parametrize("times", [[0], [0, 0]])
def test_a_video_of_one_moment_is_one_error(times):
    with pytest.raises(EpicError, match="picture in it; expected a video, with two or more"):
        place_clips(index_at(times, MILLISECOND), [], 0.5, 20)


DENSE = {"type": "SampleFrames", "clip_len": 13, "frame_interval": 6}


@pytest.mark.parametrize(
    "step, fps, window, frames",
    [
        (DENSE, 60, None, 78),
        (DENSE, 25, None, 78),
        (DENSE | {"target_fps": 30}, 60, None, 156),
        (DENSE, 60, 3.0, 180),
        ({"type": "UniformSample", "clip_len": 16}, 50, None, 100),
        ({"type": "SampleFrames", "clip_len": 1, "num_clips": 8}, 50, None, 100),
    ],
)
def test_a_clip_spans_what_the_model_was_trained_on(step, fps, window, frames):
    assert clip_frames([step], fps, window) == frames


BARE = TimelineSettings(stride=0.5, smooth=0, threshold=0, min_seconds=0)
SMOOTH = BARE.model_copy(update={"smooth": 1.0})
SURE = BARE.model_copy(update={"threshold": 0.5, "min_seconds": 1.0})


@pytest.mark.parametrize(
    "settings, p, clips, found",
    [
        # Neighbours with one best pair are one segment.
        (BARE, 0.8, "aabbbc", "aa.bbb.c"),
        # Damage parts a segment.
        (BARE, 0.8, "aaxxaab", "aa.xx.aa.b"),
        (BARE, 0.8, "xxx", "xxx"),
        # A single other clip is noise.
        (SMOOTH, 0.8, "aaabaaa", "aaaaaaa"),
        # No mean is taken over damage.
        (SMOOTH, 0.8, "aaaxbbb", "aaa.x.bbb"),
        # Short segments are left out.
        (SURE, 0.8, "aabccc", "aa.x.ccc"),
        # Unsure segments are left out.
        (SURE, 0.4, "aabccc", "xxxxxx"),
    ],
)
def test_clips_become_segments(settings, p, clips, found):
    """A letter is a clip's best pair, of probability p; two others share the rest. x: damage."""
    rows = np.array([[p if c == k else (1 - p) / 2 for k in "abc"] for c in clips])
    runs = merge(rows, np.array([c != "x" for c in clips]), settings)
    shown = ["x"] * len(clips)
    for run in runs:
        shown[run.start : run.stop] = "abc"[run.pair] * (run.stop - run.start)
    assert "".join(shown) == found.replace(".", "")
    assert len(runs) == sum("x" not in part for part in found.split("."))


def test_a_segment_s_probability_is_the_mean_of_its_steps():
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


@pytest.fixture
def tsv(tmp_path):
    """The table of a timeline; `beside` names its other files."""
    path = tmp_path / "my film.v2.tsv"
    damaged, made_from = [(2.0, 2.75)], {"model": "ab"}
    timeline = Timeline("my film.v2", 29.97, 3700.0, damaged, SEGMENTS, CLIPS, made_from)
    write_timeline(timeline, path)
    return path


def test_table_and_json_have_each_action_and_each_damaged_stretch(tsv):
    assert sorted(tsv.parent.iterdir()) == sorted(beside(tsv, suffix) for suffix in SUFFIXES)
    rows = rows_of(tsv)
    assert [(row["start"], row["what"]) for row in rows] == [
        ("0.000", "action"),
        ("2.000", "damaged"),
        ("3661.250", "action"),
    ]
    assert rows[0]["verb_name"] == "take" and rows[0]["probability"] == "0.9123"
    assert rows[1]["stop"] == "2.750" and rows[1]["verb"] == ""
    content = json.loads(beside(tsv, ".json").read_text(encoding="utf-8"))
    assert content["format"] == "epic100 timeline 1" and content["damaged"] == [[2.0, 2.75]]
    assert content["segments"][1]["action"] == "pour pan <hot> & lid"
    assert content["clips"][1] == CLIPS[1] and content["made_from"] == {"model": "ab"}


def test_the_captions_are_cues_in_order_without_markup(tsv):
    head, *cues = beside(tsv, ".vtt").read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    assert head == "WEBVTT" and len(cues) == 3
    clock = r"\d\d:\d\d:\d\d\.\d{3}"
    assert all(re.match(rf"{clock} --> {clock}\n[^\n]+$", cue) for cue in cues)
    assert "(damaged)" in cues[1]
    assert cues[2] == "01:01:01.250 --> 01:01:03.000\npour pan &lt;hot&gt; &amp; lid 50 %"


def test_actionformer_and_opentad_find_what_they_read(tsv):
    """By the keys that they use.

    ActionFormer 18e5860, libs/utils/metrics.py: `load_gt_seg_from_json`. OpenTAD 5948e38,
    opentad/evaluations/mAP.py: `_import_ground_truth`, `_import_prediction`; without a rate in its
    config, opentad/datasets/anet.py takes `frame` / `duration`.
    """
    found = json.loads(beside(tsv, ".activitynet.json").read_text(encoding="utf-8"))
    ((video, about),) = found["database"].items()
    assert video == "my film.v2" and about["subset"].lower() == "predicted"
    events = [(*map(float, e["segment"]), int(e["label_id"])) for e in about["annotations"]]
    assert events == [(0.0, 1.5, 0), (3661.25, 3663.0, 4)]
    assert about["duration"] == 3700.0 and about["fps"] == 29.97
    assert about["frame"] / about["duration"] == pytest.approx(29.97, rel=1e-4)
    ((video, results),) = found["results"].items()
    scored = [(r["label"], *map(float, r["segment"]), r["score"]) for r in results]
    assert video == "my film.v2" and scored[0] == ("take spoon", 0.0, 1.5, 0.9123)


PREDICT = PredictSettings(workers=0, device="cpu")


def learn(lab, model, out, segments="segments"):
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


def test_two_kinds_of_scores_are_told_apart_and_parted_in_the_middle():
    rng = np.random.default_rng(0)
    gaps = np.arange(200) < 40
    kinds = [[8.0] * 4 if gap else [4.0, 0.3, 0.3, 0.3] for gap in gaps]
    chances = np.array([rng.dirichlet(kind) for kind in kinds])
    rows = torch.from_numpy(np.log(chances)).float()
    weights, bias = fit(rows[::2], gaps[::2])
    scores = Background("", "", weights, bias).scores(rows[1::2])
    threshold, found, kept = best_threshold(scores, gaps[1::2])
    assert found > 0.9 and kept > 0.9
    assert best_threshold(np.array([0.1, 0.9, 0.3]), np.array([0, 1, 0], bool)) == (0.6, 1.0, 1.0)
    assert best_threshold(np.array([0.1, 0.9]), np.array([1, 0], bool))[1:] in ((1, 0), (0, 1))


def test_steps_in_which_nothing_happens_part_segments_and_are_in_none():
    pairs = np.tile([0.9, 0.1], (8, 1))
    idle = np.array([0, 0, 0.9, 0.8, 0, 0, 0, 0.6])
    found = merge(pairs, np.ones(8, bool), BARE, idle, 0.7)
    assert [(run.start, run.stop) for run in found] == [(0, 2), (4, 8)]
    assert merge(pairs, np.ones(8, bool), BARE, np.ones(8), 0.7) == []
    # A single step is noise.
    assert len(merge(pairs, np.ones(8, bool), SMOOTH, np.eye(8)[3], 0.7)) == 1


@pytest.mark.slow
def test_a_timeline_leaves_out_what_the_gaps_of_train_look_like(lab, model, tmp_path):
    path = learn(lab, model, tmp_path / "background.json")
    learned = read_background(path, ModelInUse(model).digest)
    # No shards are left.
    assert len(list(tmp_path.iterdir())) == 1
    film = lab.videos["P01_02"].path(lab.root)
    for share, threshold in (("all", 0.0), ("none", 1.1)):
        own = tmp_path / f"{share}.json"
        own.write_text(json.dumps(vars(replace(learned, threshold=threshold))))
        make_timelines(
            [film],
            ModelInUse(model, background=own),
            tmp_path / share,
            settings=BARE,
            predict=PREDICT,
        )
        found = json.loads((tmp_path / share / "P01_02.json").read_text())
        assert bool(found["segments"]) == (share == "none")
        assert all(0 <= clip["background"] <= 1 for clip in found["clips"])


@pytest.mark.slow
def test_without_gaps_nothing_is_learned(lab, model, tmp_path):
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
        "",
        "[]",
        '{"weights": [1]}',
        json.dumps(vars(Background("epic100 background 1", "another", [0.0], 0.0))),
        json.dumps(vars(Background("epic100 background 1", "this", ["a"], 0.0))),
    ],
)
def test_another_file_is_no_background(text, tmp_path):
    path = tmp_path / "background.json"
    path.write_text(text)
    with pytest.raises(EpicError, match="json: no background of this model .*; expected"):
        read_background(path, "this")


def test_timelines_of_a_split_are_one_file_of_detections(tmp_path):
    """The checks are those of the official `validate_submission`."""
    action = Segment(1.0, 2.5, 3, 12, 0, "take", "cup", 0.75, 0.9, 0.8)
    for name, segments in (("P01_11", [action]), ("P02_101", [])):
        whole = Timeline(name, 25.0, 10.0, [(4.0, 5.0)], segments, [], {})
        write_timeline(whole, tmp_path / f"{name}.tsv")
    files = [tmp_path / f"{name}.json" for name in ("P01_11", "P02_101")]
    write_detections(files, tmp_path / "detections.json", {"pt": 2, "tl": 3, "td": 3})
    found = json.loads((tmp_path / "detections.json").read_text())
    assert found.pop("results") == {
        "P01_11": [{"verb": 3, "noun": 12, "action": "3,12", "score": 0.75, "segment": [1.0, 2.5]}],
        "P02_101": [],
    }
    assert found == {
        "version": "0.2",
        "challenge": "action_detection",
        "sls_pt": 2,
        "sls_tl": 3,
        "sls_td": 3,
    }
