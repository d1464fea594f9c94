"""Files made before are read by the library as it is now; tests/data/made_before/README.md."""

import json
from pathlib import Path

import numpy as np
import torch

from epic100.base.text_table import read_table
from epic100.model.config_text import parse_config
from epic100.model.model_file import HEAD_WEIGHT, load_model
from epic100.prediction.shards import Shards
from epic100.scoring.predictions import read_predictions
from epic100.submission.files import read_pt
from epic100.training.checkpoints import newest_checkpoint, read_checkpoint
from epic100.training.epoch_table import read_epochs
from epic100.training.weights import read_weights
from epic100.video.index import VideoIndex
from epic100.video.index_file import load_index
from epic100.video.scan_table import ScanRow, read_scan_table

BEFORE = Path(__file__).parents[1] / "data/made_before"


def test_a_model():
    model = load_model(BEFORE / "model.pth")
    assert model.state_dict[HEAD_WEIGHT].shape[0] == len(model.pairs) == 8
    assert model.trained_on["epochs"] == 40 and len(model.state_dict) == 21
    assert parse_config(model.config, "model.pth", "").model.cls_head.num_classes == 8


def test_predictions_and_a_shard(tmp_path):
    found = read_predictions(BEFORE / "val.pt", "val")
    assert found.log_probs.shape == (len(found.narration_ids), 8)
    torch.testing.assert_close(found.log_probs.exp().sum(1), torch.ones(len(found.log_probs)))
    shards = Shards(tmp_path / "val.pt", "run")
    path = shards.path("P22/P22_02.MP4")
    path.parent.mkdir(parents=True)
    path.write_bytes((BEFORE / "shard.pt").read_bytes())
    rows = shards.read("P22/P22_02.MP4", "stamp")
    assert torch.equal(rows, torch.arange(24.0).reshape(3, 8).log_softmax(1))


def test_a_checkpoint_of_a_run_that_can_be_resumed():
    content = read_checkpoint(BEFORE / "iter_640.pth")
    assert content["meta"]["iter"] == 640 and len(content["optimizer"]["state"]) == 4
    assert newest_checkpoint(BEFORE, content["stamp"]) == BEFORE / "iter_640.pth"
    assert len(read_weights(BEFORE / "iter_640.pth")) == 12


def test_a_submission():
    entries = read_pt(BEFORE / "submission.pt")
    assert [e["verb_output"].shape[0] for e in entries] == [97] * 3


def test_a_scan_its_cache_and_its_index():
    rows = {row.video_id: row for row in read_scan_table(BEFORE / "P22.tsv")}
    with np.load(BEFORE / "P22_02.scan.npz") as arrays:  # as the scan keeps a finished video
        row = ScanRow.from_json(str(arrays["row"]))
        cached = VideoIndex.from_arrays(arrays)
    index = load_index(BEFORE / "P22.index.npz", "P22_02")
    assert row.damaged == rows["P22_02"].damaged and len(row.damaged) > 0
    assert index.frames == cached.frames == row.pictures > 0
    assert np.array_equal(index.pts, cached.pts)


def test_the_notes_of_a_copy():
    with np.load(BEFORE / "P22_02.proxy.npz") as arrays:
        facts, own = json.loads(str(arrays["facts"])), VideoIndex.from_arrays(arrays)
    assert (facts["key"], facts["height"]) == ("a key", 32) and facts["frames"] == own.frames


def test_the_tables():
    columns = ("narration_id", "split", "reason")
    assert len(read_table(BEFORE / "dropped.tsv", columns, about="a table")) == 43
    history = read_epochs(BEFORE / "training.tsv")
    assert len(history) == 40 and history["loss"].notna().all()
