"""Choices of the recipe: heads and sampling, from the settings through the DAG's own files."""

import json
from pathlib import Path

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.model.model_file import load_model
from epic100.prediction.predict import PredictSettings, predict
from epic100.scoring.evaluation import evaluate
from epic100.scoring.predictions import read_predictions
from epic100.segments.segment_list import read_segments
from epic100.submission.export import export
from epic100.training.config import build_config
from epic100.training.config_heads import heads_of
from epic100.training.run import train
from epic100.training.settings import TrainSettings
from support.small_runs import SMALL, copy_results

pytestmark = pytest.mark.slow

DEMO = "config/x3d_demo.py"
RECIPE = "config/x3d_s_epic_rgb_segments.py"
SLS = {"pt": 0, "tl": 3, "td": 3}


def settings(**changes):
    return TrainSettings.from_section({"config": DEMO, "epochs": 1, "batch_size": 4, **changes})


def samplers(config):
    return [step for loader in (config.train_dataloader, config.test_dataloader)
            for step in loader.dataset.pipeline if "Sample" in step["type"]]  # fmt: skip


def test_segment_sampling_takes_the_place_of_dense_in_every_pipeline(lab):
    config = build_config(settings(sampling="segment"), lab.results, lab.root)
    assert [dict(step) for step in samplers(config)] == [
        {"type": "UniformSample", "clip_len": 13, "test_mode": False},
        {"type": "UniformSample", "clip_len": 13, "test_mode": True},
    ]
    for chosen in (None, "dense"):
        config = build_config(settings(sampling=chosen), lab.results, lab.root)
        assert {step["type"] for step in samplers(config)} == {"SampleFrames"}


@pytest.mark.parametrize("chosen, kinds, heads", [
    ({"config": RECIPE}, {"UniformSample"}, "both"),
    ({"config": RECIPE, "sampling": "dense", "heads": "pair"}, {"SampleFrames"}, "pair"),
    ({"config": "config/x3d_s_epic_from_scratch.py"}, {"UniformSample"}, "both"),
    ({"config": "config/lab_13x6.py"}, {"SampleFrames"}, "pair"),
    ({"config": "config/lab_13x6.py", "heads": "verb_noun"}, {"SampleFrames"}, "verb_noun"),
    ({"config": "config/zoo/x3d_m.py"}, {"SampleFrames"}, "both"),
    ({"config": DEMO}, {"SampleFrames"}, "pair"),
])  # fmt: skip
def test_the_mmengine_config_says_heads_and_sampling_unless_the_settings_do(
    lab, chosen, kinds, heads
):
    config = build_config(settings(**chosen), lab.results, lab.root)
    assert {step["type"] for step in samplers(config)} == kinds
    assert heads_of(config) == heads and not {"heads", "sampling"} & set(config)


@pytest.mark.parametrize("line, words", [
    ("heads = 'nouns'", "own.py: heads is 'nouns'; expected pair, verb_noun, both or None"),
    ("model = dict(cls_head=dict(loss_cls=dict(type='FocalLoss')))", "a loss of its own .Focal"),
])  # fmt: skip
def test_a_config_whose_heads_cannot_be_is_one_line(lab, tmp_path, line, words):
    own = tmp_path / "own.py"
    own.write_text(f"_base_ = [{str(Path(RECIPE).absolute())!r}]\n{line}\n")
    with pytest.raises(EpicError, match=words):
        build_config(settings(config=str(own)), lab.results, lab.root)


@pytest.mark.parametrize("chosen, words", [
    ({"config": RECIPE, "target_fps": 30}, "target_fps is 30, but config/x3d_s_epic_rgb"),
    ({"sampling": "segment", "target_fps": 30}, "target_fps is 30, but config/x3d_demo.py takes"),
    ({"config": "config/zoo/tsn_r50.py", "target_fps": 30}, "target_fps is 30, but config/zoo/tsn"),
    ({"config": "config/zoo/timesformer.py", "sampling": "dense"}, "sampling is dense, but"),
])  # fmt: skip
def test_what_a_pipeline_cannot_do_is_one_line(lab, chosen, words):
    with pytest.raises(EpicError, match=words):
        build_config(settings(**chosen), lab.results, lab.root)


def test_labels_that_are_mixed_go_with_one_head_only(lab):
    blending = {"type": "MixupBlending", "num_classes": 9}
    mixing = {"model.data_preprocessor.blending": blending}
    config = build_config(settings(options=mixing), lab.results, lab.root)
    assert config.model.data_preprocessor.blending.type == "MixupBlending"


@pytest.mark.parametrize("heads", ["verb_noun", "both"])
def test_heads_go_from_training_to_the_submission(lab, tmp_path, heads):
    results = copy_results(lab, tmp_path, segments=8)
    train(
        settings(heads=heads, sampling="segment", options=SMALL, label_smoothing=0.1),
        results / "model.pth", history_path=results / "training.tsv", results=str(results),
        video_root=lab.root, num_verbs=97, num_nouns=300,
    )  # fmt: skip
    model = load_model(results / "model.pth")
    pairs = len(model.pairs)
    assert model.heads == heads
    outputs = 397 + (pairs if heads == "both" else 0)
    assert len(model.state_dict["cls_head.fc2.weight"]) == outputs
    clean = results / "clean/val.txt"
    predict(
        results / "model.pth", clean, results / "val.pt", split="val", video_root=lab.root,
        index_dir=f"{results}/scan", settings=PredictSettings(),
    )  # fmt: skip
    found = read_predictions(results / "val.pt", "val", model=results / "model.pth", clean=clean)
    ids = read_segments(clean)["narration_id"].tolist()
    for rows in (found.log_probs, found.verb_log_probs, found.noun_log_probs):
        torch.testing.assert_close(rows.exp().sum(dim=1), torch.ones(len(ids)))
    assert found.log_probs.shape[1] == pairs and found.pair_head == (heads == "both")
    figures = evaluate(
        results / "val.pt", results / "segments/val.txt", results / "metrics.json",
        lists={}, reduce=None,
    )  # fmt: skip
    assert set(figures["by_reduce"]) == {"logsumexp", "max", "heads"}
    assert figures["reduce"] == ("max" if heads == "both" else "heads")
    assert (figures["action_head_accuracy_at_1"] is None) == (heads == "verb_noun")
    assert json.loads((results / "metrics.json").read_text())["by_reduce"]["heads"]
    export_heads(results, found)


def export_heads(results: Path, found) -> None:
    """The scores of the heads stand in the submission as they are."""
    out = results / "submission.pt"
    export(
        results / "val.pt", results / "segments/val.txt", out, split="val", reduce="heads",
        sls=SLS,
    )  # fmt: skip
    entries = {e["narration_id"]: e for e in torch.load(out, weights_only=True)}
    for index, name in enumerate(found.narration_ids):
        assert torch.equal(entries[name]["verb_output"], found.verb_log_probs[index])
        assert torch.equal(entries[name]["noun_output"], found.noun_log_probs[index])
