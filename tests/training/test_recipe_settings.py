"""Choices of the recipe: heads and sampling, from the settings through the DAG's own files."""

import json
from pathlib import Path

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.model.model_file import load_model
from epic100.prediction.predict import predict
from epic100.scoring.evaluation import evaluate
from epic100.scoring.predictions import read_predictions
from epic100.segments.segment_list import read_segments
from epic100.settings import PredictSettings
from epic100.submission.export import export
from epic100.training.config_heads import heads_of
from support.small_runs import DEMO, built, copy_results, run

pytestmark = pytest.mark.slow

RECIPE = "config/x3d_s_epic_rgb_segments.py"
HEADS = {DEMO: "cls_head.fc2.weight", "config/slowonly_demo.py": "cls_head.fc_cls.weight"}


def samplers(config):
    return [step for loader in (config.train_dataloader, config.test_dataloader)
            for step in loader.dataset.pipeline if "Sample" in step["type"]]  # fmt: skip


def test_segment_sampling_takes_the_place_of_dense_in_every_pipeline(lab):
    config = built(lab, sampling="segment")
    assert [dict(step) for step in samplers(config)] == [
        {"type": "UniformSample", "clip_len": 13, "test_mode": False},
        {"type": "UniformSample", "clip_len": 13, "test_mode": True},
    ]
    for chosen in (None, "dense"):
        config = built(lab, sampling=chosen)
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
    config = built(lab, **chosen)
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
        built(lab, config=str(own))


@pytest.mark.parametrize("chosen, words", [
    ({"config": RECIPE, "target_fps": 30}, "target_fps is 30, but config/x3d_s_epic_rgb"),
    ({"sampling": "segment", "target_fps": 30}, f"target_fps is 30, but {DEMO} takes"),
    ({"config": "config/zoo/tsn_r50.py", "target_fps": 30}, "target_fps is 30, but config/zoo/tsn"),
    ({"config": "config/zoo/timesformer.py", "sampling": "dense"}, "sampling is dense, but"),
])  # fmt: skip
def test_what_a_pipeline_cannot_do_is_one_line(lab, chosen, words):
    with pytest.raises(EpicError, match=words):
        built(lab, **chosen)


def test_labels_that_are_mixed_go_with_one_head_only(lab):
    blending = {"type": "MixupBlending", "num_classes": 9}
    mixing = {"model.data_preprocessor.blending": blending}
    config = built(lab, options=mixing)
    assert config.model.data_preprocessor.blending.type == "MixupBlending"


@pytest.mark.parametrize("heads, config", [
    ("verb_noun", "config/slowonly_demo.py"), ("both", DEMO),
])  # fmt: skip
def test_heads_of_two_backbones_go_from_training_to_the_submission(lab, tmp_path, heads, config):
    results = copy_results(lab, tmp_path)
    run(lab, results, heads=heads, config=config, sampling="segment", label_smoothing=0.1, epochs=1,
        batch_size=4)  # fmt: skip
    model = load_model(results / "model.pth")
    pairs = len(model.pairs)
    assert model.heads == heads
    outputs = 397 + (pairs if heads == "both" else 0)
    assert model.state_dict[HEADS[config]].shape[0] == outputs
    clean, val = results / "clean/val.txt", results / "val.pt"
    predict(results / "model.pth", clean, val, split="val", video_root=lab.root,
            index_dir=f"{results}/scan", settings=PredictSettings(clips=2))  # fmt: skip
    found = read_predictions(val, "val", model=results / "model.pth", clean=clean)
    ids = read_segments(clean)["narration_id"].tolist()
    for rows in (found.log_probs, found.verb_log_probs, found.noun_log_probs):
        torch.testing.assert_close(rows.exp().sum(dim=1), torch.ones(len(ids)))
    assert found.log_probs.shape[1] == pairs and found.pair_head == (heads == "both")
    segments = results / "segments/val.txt"
    figures = evaluate(val, segments, results / "metrics.json", lists={}, reduce=None)
    assert set(figures["by_reduce"]) == {"logsumexp", "max", "heads"}
    assert figures["reduce"] == ("max" if heads == "both" else "heads")
    assert (figures["action_head_accuracy_at_1"] is None) == (heads == "verb_noun")
    assert json.loads((results / "metrics.json").read_text())["by_reduce"]["heads"]
    # The scores of the heads stand in the submission as they are.
    out = results / "submission.pt"
    export(val, segments, out, split="val", reduce="heads", sls={"pt": 0, "tl": 3, "td": 3})
    entries = {entry["narration_id"]: entry for entry in torch.load(out, weights_only=True)}
    assert found.narration_ids == ids
    for index, name in enumerate(ids):
        assert torch.equal(entries[name]["verb_output"], found.verb_log_probs[index])
        assert torch.equal(entries[name]["noun_output"], found.noun_log_probs[index])
