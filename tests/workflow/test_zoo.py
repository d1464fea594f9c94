"""The default recipe and the zoo, shrunk, through the whole DAG: from videos to the submission."""

import json
import re

import pytest
import torch
from mmaction.registry import MODELS as REGISTRY
from torch._subclasses.fake_tensor import FakeTensorMode

from epic100.migrate.adopt import adopt, adopt_encoder
from epic100.model.forward import pooled_features, scores_of_views
from epic100.model.published import published
from epic100.model.views import frames_of_2d
from epic100.training.check import saved_for_backward
from epic100.training.recipe import precision_of
from epic100.training.table import HEADS_TEXT
from support import published_weights
from support.archive import configure, run
from support.checkout import ROOT
from support.zoo import DEFAULT, SHRUNK, shrunk

ENCODERS = ("avion", "lavila")
# One model of the zoo is looked at each time, the others once a week.
MODELS = [
    pytest.param(name, marks=() if name == "timesformer" else pytest.mark.weekly) for name in SHRUNK
]


def test_every_model_of_the_zoo_is_here():
    assert ({path.stem for path in (ROOT / "config/zoo").glob("*.py")} - {"base"}) == set(SHRUNK)


@pytest.mark.parametrize("name", [DEFAULT, *SHRUNK])
def test_a_part_of_a_default_batch_fits_a_card_of_40_gb(name):
    """At full size, in float32, with tensors that have shapes and no values."""
    _, config, _ = shrunk(name)
    loader, hooks = config.train_dataloader, config.default_hooks
    part = min(loader.batch_size, hooks.get("accumulate", loader).get("most", loader.batch_size))
    steps = {step.type: step for step in loader.dataset.pipeline}
    sample = steps.get("UniformSample") or steps["SampleFrames"]
    side = steps["DecodeSegment"].get("size") or steps["Resize"].scale[0]
    flat = config.model.type == "Recognizer2D"
    shape = (part * sample.get("num_clips", 1), 3, *([] if flat else [sample.clip_len]), side, side)
    backbone = REGISTRY.build(config.model.backbone)
    backbone.train()
    again = hooks.get("recompute")
    attends = any("Attention" in type(module).__name__ for module in backbone.modules())
    assert attends == (again is not None) == (precision_of(config) == "bf16")
    with FakeTensorMode(allow_non_fake_inputs=True), saved_for_backward(backbone) as saved:
        backbone(torch.rand(shape))
    # The weights are among them.
    assert 4 < sum(saved.values()) / 2**30 <= 30
    # The count does not know of blocks that are computed again, so `recompute` must be off.
    assert again is None or not again.on


@pytest.mark.slow
@pytest.mark.parametrize("name", [DEFAULT, *MODELS])
def test_a_model_goes_from_videos_to_a_submission(name, clean_archive, tmp_path):
    path, config, options = shrunk(name)
    folder = clean_archive(tmp_path / "archive")
    train = {
        "config": path,
        "from_scratch": True,
        "epochs": 1,
        "batch_size": 4,
        "workers": 0,
        "options": options,
    }
    kind = name.partition("_")[0]
    if kind in ENCODERS:  # It starts from weights in their layout, of four frames.
        change, model = published_weights.as_encoder, published_weights.small(f"{kind}_b")
        published_weights.checkpoint(f"{kind}_b", tmp_path / "theirs.pt", change)
        adopt_encoder(f"{kind}_b", tmp_path / "theirs.pt", tmp_path / "ours.pth", 16, model)
    elif name in published():  # It starts from the network that was trained on EPIC-KITCHENS.
        published_weights.checkpoint(name, tmp_path / "theirs.pt")
        csvs = published_weights.official_csvs(tmp_path)
        model = published_weights.small(name)
        adopt(name, tmp_path / "theirs.pt", tmp_path / "ours.pth", model=model, **csvs)
    if started := (tmp_path / "ours.pth").exists():
        train |= {"from_scratch": False, "load_from": str(tmp_path / "ours.pth")}
    configure(folder, train=train, predict={"workers": 0, "crops": 3})
    run(folder, "results/submission.pt", "results/metrics.json", "--cores", "2")
    figures = json.loads((folder / "results/metrics.json").read_text())
    assert figures["predicted"] == figures["segments"] > 0
    heads = config.model.cls_head.heads
    folds = {"pair": set(), "verb_noun": {"heads"}, "both": {"heads", "joint"}}[heads]
    assert set(figures["by_reduce"]) == {"logsumexp", "max"} | folds
    dense = any(s.get("frame_interval", 1) > 1 for s in config.train_dataloader.dataset.pipeline)
    log = (folder / "results/logs/predict/val.log").read_text()
    clips = 10 if dense else 1
    assert f"{clips} clips x 3 crops of each of {figures['segments']} segments" in log
    assert f"segments: {3 * clips} times the cost of one view" in log
    log = (folder / "results/logs/train.log").read_text()
    assert f"head: {HEADS_TEXT[heads]}dropout" in log
    assert not started or re.search(r"weights: .*ours\.pth: \d+ of \d+ tensors", log)
    assert ("clips mixed by MixClips" in log) == ("blending" in config.model.data_preprocessor)
    assert ("apart at" in log) == dense and ("frames over the whole segment" in log) != dense


@pytest.mark.parametrize("name", MODELS)
def test_a_model_starts_without_weights_and_gives_the_features_of_its_last_layer(name, tmp_path):
    _, config, options = shrunk(name)
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("pair_id\tverb\tnoun\tcount\n0\t0\t1\t1\n")
    config.merge_from_dict(options | {"model.cls_head.pairs": str(pairs)})
    model = REGISTRY.build(config.model)
    # A run calls this too, whatever `load_from` is.
    model.init_weights()
    model.eval()
    steps = config.test_dataloader.dataset.pipeline
    frames = frames_of_2d(steps)
    number = frames or min(16, next(step["clip_len"] for step in steps if "clip_len" in step))
    shape = (number, 3, 32, 32) if frames else (1, 3, number, 32, 32)
    generator = torch.Generator().manual_seed(0)
    clips = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for _ in "ab"]
    found = pooled_features(model, clips, 1, frames, name)
    assert found.shape == (2, config.model.cls_head.head.in_channels)
    head = model.cls_head
    # X3D has a layer in between.
    with torch.inference_mode():
        last = head.fc2(head.fc1(found).relu()) if hasattr(head, "fc2") else head.fc_cls(found)
    (scores,) = scores_of_views(model, clips, 2, frames)
    torch.testing.assert_close(last, scores, atol=1e-4, rtol=1e-4)
