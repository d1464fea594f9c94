"""Training and validation on copies: the same frame numbers, smaller pictures."""

from pathlib import Path

import numpy as np
import pytest
from mmaction.registry import DATASETS

import epic100.mmaction  # noqa: F401
from epic100.proxy.copies import make_proxies
from epic100.settings import TrainSettings, read_settings
from epic100.training.recipe import build_config


def test_a_sample_of_a_copy_is_the_sample_of_the_original_in_small(lab, tmp_path):
    scan = Path(lab.results) / "scan"
    make_proxies(
        [v for v in lab.videos.values() if v.participant_id == "P01"], lab.root, tmp_path,
        settings=read_settings({"videos": {"proxy": {"height": 60}}}), scan_table=scan / "P01.tsv",
        scan_index=scan / "P01.index.npz", table=tmp_path / "P01.tsv",
        index=tmp_path / "P01.index.npz",
    )  # fmt: skip
    settings = TrainSettings(config="config/x3d_demo.py", load_from=None)
    clips = []
    for root, index_dir in ((str(tmp_path), str(tmp_path)), (lab.root, None)):
        config = build_config(settings, lab.results, root, index_dir)
        train, val = config.train_dataloader.dataset, config.val_dataloader.dataset
        assert {part.index_dir for part in (train, val)} == {index_dir or str(scan)}
        # The first three steps give the pictures.
        dataset = DATASETS.build(val | {"pipeline": val.pipeline[:3]})
        clips.append((dataset[0], dataset[len(dataset) - 1]))
    for small, original in zip(*clips, strict=True):
        assert small["frame_inds"].tolist() == original["frame_inds"].tolist()
        assert small["avg_fps"] == pytest.approx(original["avg_fps"], abs=1e-9)
        assert str(tmp_path) in small["filename"] and lab.root in original["filename"]
        difference = np.stack(small["imgs"]).astype(int)[:, :50, :90]
        difference -= np.stack(original["imgs"])[:, :50, :90]
        assert np.abs(difference).mean((1, 2, 3)).max() < 12
