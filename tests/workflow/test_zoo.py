"""The recipes and adopted models, made small, through the whole DAG: from videos to metrics."""

import json
import re

import pytest
import torch
from mmaction.registry import MODELS as REGISTRY
from torch._subclasses.fake_tensor import FakeTensorMode

from epic100.cli.adopt import adopt, adopt_encoder
from epic100.model.published import published
from epic100.scoring.evaluation import evaluate
from epic100.training.recipe import precision_of
from support.archive import configure, run
from support.checkout import ROOT
from support.models import predicted, saved_for_backward
from support.zoo import (
    DEFAULT,
    SHRUNK,
    as_encoder,
    checkpoint,
    official_csvs,
    shrunk,
    small,
)

# The default recipe is tested each time, the others once a week.
RECIPES = [DEFAULT, *(pytest.param(name, marks=pytest.mark.weekly) for name in SHRUNK)]


def test_each_zoo_recipe_can_be_made_small():
    # The recipes on an encoder of Hugging Face are tested in test_encoders.py.
    recipes = {path.stem for path in (ROOT / "config/zoo").glob("*.py")} - {"base"}
    assert {name for name in recipes if not name.startswith("hf_")} == set(SHRUNK)


@pytest.mark.parametrize("name", RECIPES)
def test_a_batch_part_fits_40_gb(name):
    """The model has its full size, in float32. Its tensors have shapes and no values."""
    _, config, _ = shrunk(name)
    loader = config.train_dataloader
    # A batch goes through the model in equal parts of at most this many segments.
    most = config.get("most_at_once", loader.batch_size)
    part = max(count for count in range(1, most + 1) if loader.batch_size % count == 0)
    steps = {step.type: step for step in loader.dataset.pipeline}
    sample = steps.get("UniformSample") or steps["SampleFrames"]
    side = steps["DecodeSegment"].get("size") or steps["Resize"].scale[0]
    # A 2D model gets frames as more samples, and any other model gets them as a dimension.
    frames = [] if config.model.type == "Recognizer2D" else [sample.clip_len]
    shape = (part * sample.get("num_clips", 1), 3, *frames, side, side)
    backbone = REGISTRY.build(config.model.backbone)
    backbone.train()
    attends = any("Attention" in type(module).__name__ for module in backbone.modules())
    assert attends == (precision_of(config) == "bf16")
    # The count below leaves out that blocks are computed again, so none may be.
    assert not config.get("activation_checkpointing")
    with FakeTensorMode(allow_non_fake_inputs=True), saved_for_backward(backbone) as saved:
        backbone(torch.rand(shape))
    # The weights are counted too. Of 40 GB, 10 are left for gradients, the optimizer and the head.
    assert 4 < sum(saved.values()) / 2**30 <= 30


@pytest.mark.parametrize("name", RECIPES)
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
    # An encoder may be frozen (docs/training.md).
    if name == "avion_l":
        options["model.backbone.frozen"] = True
    # An encoder starts from published weights in their own layout, of four frames.
    if kind in ("avion", "lavila"):
        model = small(f"{kind}_b")
        checkpoint(f"{kind}_b", tmp_path / "theirs.pt", as_encoder)
        adopt_encoder(f"{kind}_b", tmp_path / "theirs.pt", tmp_path / "ours.pth", 16, model)
    # A published model starts from the network that was trained on EPIC-KITCHENS.
    elif name in published():
        checkpoint(name, tmp_path / "theirs.pt")
        csvs = official_csvs(tmp_path)
        model = small(name)
        adopt(name, tmp_path / "theirs.pt", tmp_path / "ours.pth", model=model, **csvs)
    if started := (tmp_path / "ours.pth").exists():
        train |= {"from_scratch": False, "load_from": str(tmp_path / "ours.pth")}
    configure(folder, train=train, predict={"workers": 0, "crops": 3})
    targets = ("results/submission.pt", "results/metrics.json", "results/features/P02.tsv")
    run(folder, *targets, "--cores", "2")
    figures = json.loads((folder / "results/metrics.json").read_text())
    assert figures["predicted"] == figures["segments"] > 0
    heads = config.model.cls_head.heads
    of_own_heads = {"pair": set(), "verb_noun": {"heads"}, "both": {"heads", "joint"}}[heads]
    assert set(figures["by_reduce"]) == {"logsumexp", "max"} | of_own_heads
    dense = any(s.get("frame_interval", 1) > 1 for s in config.train_dataloader.dataset.pipeline)
    log = (folder / "results/logs/predict/val.log").read_text()
    clips = 10 if dense else 1
    assert f"{clips} clips x 3 crops of each of {figures['segments']} segments" in log
    assert f"segments: {3 * clips} times the cost of one view" in log
    log = (folder / "results/logs/train.log").read_text()
    assert not started or re.search(r"ours\.pth: \d+ of \d+ tensors", log)


def adopted(name, folder):
    """Adopt a small checkpoint in the layout of a published model; return the model file."""
    checkpoint(name, folder / "theirs.pt")
    adopt(
        name,
        folder / "theirs.pt",
        folder / f"{name}.pth",
        model=small(name),
        **official_csvs(folder),
    )
    (folder / "theirs.pt").unlink()
    return folder / f"{name}.pth"


# `avion_b_no_llm` is the network of `avion_b` with other weights.
@pytest.mark.parametrize("name", [name for name in published() if name != "avion_b_no_llm"])
def test_each_file_leads_to_its_published_metrics(name, lab, tmp_path):
    path = adopted(name, tmp_path)
    clean, predictions = f"{lab.results}/clean/val.txt", tmp_path / "val.pt"
    clips = 10 if name == "slowfast_r50" else 1
    predicted(lab, path, clean, predictions, batch_size=2, workers=0, clips=clips)
    segments = f"{lab.results}/segments/val.txt"
    figures = evaluate(predictions, segments, tmp_path / "metrics.json", lists={}, reduce=None)
    rows = figures["beside_published"]["rows"]
    assert [row["segments"] for row in rows] == ["all"] * 4 + ["readable"] * 4
    model = published()[name]
    compared = {"verb": model.verb, "noun": model.noun}
    compared["action, own scores" if model.own_scores else "action, official"] = model.action
    assert {row["what"]: row["published"] for row in rows if row["published"]} == {
        what: figure for what, figure in compared.items() if figure
    }
    for row in filter(lambda row: row["published"], rows):
        assert row["difference"] == row["here"] - row["published"]
        assert row["low"] <= row["difference"] <= row["high"]
        # The interval of the difference has 0 in it if the figures agree.
        assert row["agrees"] == (row["low"] <= 0 <= row["high"])


def test_an_adopted_model_makes_all_products(clean_archive, tmp_path):
    folder = clean_archive(tmp_path / "archive")
    model = adopted("slowfast_r50", tmp_path)
    configure(folder, predict={"model": str(model), "workers": 0})
    names = ("timeline/P02_102.tsv", "features/P02.tsv", "metrics.json", "summary.txt")
    run(folder, *(f"results/{name}" for name in names), "--cores", "2")
    figures = json.loads((folder / "results/metrics.json").read_text())
    assert figures["predicted"] == figures["segments"] > 0
    assert set(figures["by_reduce"]) == {"logsumexp", "max", "heads"}
    text = (folder / "results/summary.txt").read_text()
    assert "SlowFast R50, 8x8: top-1 as published and here" in text and "DIFFERS" in text
    assert "What usually makes such a difference" in text and "the order of the classes" in text
    assert (folder / "results/timeline/P02_102.tsv").stat().st_size > 50
