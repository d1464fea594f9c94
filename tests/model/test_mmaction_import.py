import importlib
import importlib.machinery
import subprocess
import sys

import pytest
import torch
from mmengine.registry import init_default_scope


def test_the_package_as_published_imports_in_a_fresh_process_and_says_nothing():
    code = "import epic100.mmaction; from mmaction.models import X3D; print(X3D.__name__)"
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "X3D\n" and not done.stderr


def test_the_placeholder_serves_only_what_is_absent():
    import epic100.model.mmaction_import as door

    finder = door._DrnPlaceholder()
    assert finder.find_spec("mmaction.models.localizers.bmn") is None
    kinds = [finder if isinstance(finder, type) else type(finder) for finder in sys.meta_path]
    assert kinds.index(door._DrnPlaceholder) > kinds.index(importlib.machinery.PathFinder)
    drn = importlib.import_module("mmaction.models.localizers.drn.drn")
    with pytest.raises(NotImplementedError, match="1.2.0"):
        drn.DRN()


def test_x3d_s_of_the_config_takes_13_frames_and_scores_pairs_verbs_and_nouns(lab, monkeypatch):
    from mmaction.registry import MODELS

    import epic100.mmaction  # noqa: F401
    from epic100.training.config import build_config
    from epic100.training.settings import TrainSettings

    init_default_scope("mmaction")
    settings = TrainSettings(config="config/x3d_s_epic_rgb_segments.py")
    config = build_config(settings, lab.results, lab.root)
    model = MODELS.build(config.model).eval()
    head = 432 * 2048 + 400 * (2048 + 1)  # of Kinetics-400
    million = (sum(p.numel() for p in model.backbone.parameters()) + head) / 1e6
    assert million == pytest.approx(3.8, abs=0.05)  # Feichtenhofer, CVPR 2020, table 4: X3D-S
    with torch.inference_mode():
        features, _ = model.extract_feat(torch.zeros(1, 1, 3, 13, 64, 64), test_mode=True)
        assert model.cls_head(features).shape == (1, config.num_classes + 97 + 300)


def test_the_door_alone_registers_all_that_a_config_names():
    program = (
        "import epic100.mmaction\n"
        "from mmaction.registry import DATASETS, HOOKS, METRICS, TRANSFORMS\n"
        "assert 'EpicSegmentVideoDataset' in DATASETS and 'EpicPairMetric' in METRICS\n"
        "assert {'OpenSegment', 'DecodeSegment'} <= set(TRANSFORMS.module_dict)\n"
        "hooks = {'SampleSeedHook', 'SafeCheckpointHook', 'HistoryHook'}\n"
        "assert hooks <= set(HOOKS.module_dict)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
