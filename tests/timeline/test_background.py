"""Where nothing happens: learned from gaps between segments, its threshold chosen on val."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.segments.segment_list import read_segments, write_segments
from epic100.settings import PredictSettings, TimelineSettings
from epic100.timeline.background import Background, best_threshold, fit, read_background
from epic100.timeline.content import merge
from epic100.timeline.gaps import LEAST, learn_background
from epic100.timeline.run import ModelInUse, make_timelines
from support.models import save_random_model

PREDICT = PredictSettings(workers=0, device="cpu")
STEPS = TimelineSettings(stride=0.5, smooth=0, threshold=0, min_seconds=0)


@pytest.fixture(scope="module")
def model(lab, tmp_path_factory):
    return save_random_model(lab, tmp_path_factory.mktemp("model") / "model.pth")


def learn(lab, model, out, segments="segments"):
    scans = sorted((lab.folder / "results/scan").glob("*.tsv"))
    learn_background(
        ModelInUse(model), out, predict=PREDICT, root=lab.root, scans=list(map(str, scans)),
        segments={s: f"{lab.results}/{segments}/{s}.txt" for s in ("train", "val")},
        clean={s: f"{lab.results}/clean/{s}.txt" for s in ("train", "val")},
        indexes=[str(path.with_suffix(".index.npz")) for path in scans],
    )  # fmt: skip
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
    found = merge(pairs, np.ones(8, bool), STEPS, idle, 0.7)
    assert [(run.start, run.stop) for run in found] == [(0, 2), (4, 8)]
    assert merge(pairs, np.ones(8, bool), STEPS, np.ones(8), 0.7) == []
    smooth = STEPS.model_copy(update={"smooth": 1.0})
    assert len(merge(pairs, np.ones(8, bool), smooth, np.eye(8)[3], 0.7)) == 1  # one step is noise


@pytest.mark.slow
def test_a_timeline_leaves_out_what_the_gaps_of_train_look_like(lab, model, tmp_path):
    path = learn(lab, model, tmp_path / "background.json")
    learned = read_background(path, ModelInUse(model).digest)
    assert len(list(tmp_path.iterdir())) == 1  # no shards are left
    film = lab.videos["P01_02"].path(lab.root)
    for share, threshold in (("all", 0.0), ("none", 1.1)):
        own = tmp_path / f"{share}.json"
        own.write_text(json.dumps(vars(replace(learned, threshold=threshold))))
        make_timelines([film], ModelInUse(model, background=own), tmp_path / share,
                       settings=STEPS, predict=PREDICT)  # fmt: skip
        found = json.loads((tmp_path / share / "P01_02.json").read_text())
        assert bool(found["segments"]) == (share == "none")
        assert all(0 <= clip["background"] <= 1 for clip in found["clips"])


@pytest.mark.slow
def test_without_gaps_nothing_is_learned(lab, model, tmp_path):
    for split in ("train", "val"):
        table = read_segments(f"{lab.results}/segments/{split}.txt")
        table["stop"] += 10**6
        (lab.folder / "results/no_gaps").mkdir(exist_ok=True)
        write_segments(table, f"{lab.results}/no_gaps/{split}.txt")
    with pytest.raises(EpicError, match=f"train.txt: 0 gaps of {LEAST} frames or more and "):
        learn(lab, model, tmp_path / "background.json", "no_gaps")


@pytest.mark.parametrize("text", [
    "", "[]", '{"weights": [1]}',
    json.dumps(vars(Background("epic100 background 1", "another", [0.0], 0.0))),
    json.dumps(vars(Background("epic100 background 1", "this", ["a"], 0.0))),
])  # fmt: skip
def test_another_file_is_no_background(text, tmp_path):
    path = tmp_path / "background.json"
    path.write_text(text)
    with pytest.raises(EpicError, match="background.json: no background of this model .*; make it"):
        read_background(path, "this")
