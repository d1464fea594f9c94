"""Training and prediction on copies: the same frame numbers, smaller pictures."""

from pathlib import Path

import numpy as np
import pytest
from mmaction.registry import DATASETS

import epic100.mmaction  # noqa: F401
from epic100.prediction.predict import predict
from epic100.proxy.copies import make_proxies
from epic100.scoring.predictions import read_predictions
from epic100.segments.segment_list import read_segments
from epic100.settings import PredictSettings, ProxySettings, TrainSettings
from epic100.training.config import build_config
from epic100.training.train import train
from support.small_runs import copy_results

SETTINGS = TrainSettings(
    config="config/x3d_demo.py",
    load_from=None,
    epochs=1,
    batch_size=4,
    options={"train_cfg.val_interval": 100},
)


@pytest.fixture(scope="module")
def results(lab, tmp_path_factory) -> Path:
    """The lab's results with eight train segments, and copies of its videos; no original."""
    folder = copy_results(lab, tmp_path_factory.mktemp("copies"))
    for participant in ("P01", "P02", "P03"):
        make_proxies(
            [v for v in lab.videos.values() if v.participant_id == participant],
            lab.root, folder / "proxies", settings=ProxySettings(height=60),
            scan_table=folder / f"scan/{participant}.tsv",
            scan_index=folder / f"scan/{participant}.index.npz",
            table=folder / f"proxies/{participant}.tsv",
            index=folder / f"proxies/{participant}.index.npz",
        )  # fmt: skip
    return folder


def samples(results, root, index_dir):
    """The first and the last clip of val, as far as the pictures."""
    spec = build_config(SETTINGS, str(results), str(root), index_dir).val_dataloader.dataset
    assert spec.index_dir == (index_dir or f"{results}/scan")
    spec.pipeline = spec.pipeline[:3]
    dataset = DATASETS.build(spec)
    return dataset[0], dataset[len(dataset) - 1]


def test_a_sample_of_a_copy_is_the_sample_of_the_original_in_small(lab, results):
    copies = samples(results, results / "proxies", str(results / "proxies"))
    originals = samples(results, lab.root, None)
    for small, original in zip(copies, originals, strict=True):
        assert small["frame_inds"].tolist() == original["frame_inds"].tolist()
        assert small["avg_fps"] == pytest.approx(original["avg_fps"], abs=1e-9)
        assert "/proxies/" in small["filename"] and lab.root in original["filename"]
        difference = np.stack(small["imgs"]).astype(int)[:, :50, :90]
        difference -= np.stack(original["imgs"])[:, :50, :90]
        assert np.abs(difference).mean((1, 2, 3)).max() < 12


def test_a_model_is_trained_and_predicts_on_copies_alone(lab, results):
    copies = str(results / "proxies")
    train(SETTINGS, results / "model.pth", results=str(results), video_root=copies,
          num_verbs=97, num_nouns=300, index_dir=copies)  # fmt: skip
    predict(
        results / "model.pth", results / "clean/val.txt", results / "val.pt", split="val",
        video_root=copies, index_dir=copies, settings=PredictSettings(clips=1, workers=0),
    )  # fmt: skip
    listed = read_segments(results / "clean/val.txt")["narration_id"].tolist()
    assert read_predictions(results / "val.pt", "val").narration_ids == listed
