"""Other models than the tests' small one: MMAction2's own, X3D-S at its real size, other heads."""

import shutil
from pathlib import Path

import pytest
import torch
from mmaction.registry import MODELS

from epic100.data.segment_list import read_segments
from epic100.model.model_file import load_model
from epic100.scoring.submission import export
from epic100.settings.training import TrainSettings
from epic100.training.train import train
from support.models import predicted
from support.small_runs import built, copy_results, job, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "model_type, outputs_of_classes, last_layers",
    [
        pytest.param("TPN", 0, ["cls_head.fc_cls", "neck.aux_head.fc"], id="TPN"),
        # Its head has outputs for 97 verbs and 300 nouns, too.
        pytest.param("TRN", 397, ["cls_head.consensus.fc_fusion_scales.0.3"], id="TRN"),
    ],
)
def test_an_mmaction2_head_learns_and_predicts_reproducibly(
    lab, tmp_path, model_type, outputs_of_classes, last_layers
):
    results = copy_results(lab, tmp_path, segments=4)
    chosen = {
        "config": str(Path(__file__).parent / f"data/{model_type.lower()}.py"),
        "load_from": None,
        "device": "cpu",
        "epochs": 1,
        "batch_size": 2,
        "validate": {"segments": 2},
    }
    train(TrainSettings.model_validate(chosen), **job(lab, results))
    model = load_model(results / "model.pth")
    outputs = len(model.pairs) + outputs_of_classes
    assert sum(model.outputs.values()) == outputs
    head = model.config["model"]["cls_head"]
    assert (head["type"], head["num_classes"]) == (f"{model_type}Head", outputs)
    assert {len(model.state_dict[f"{layer}.weight"]) for layer in last_layers} == {outputs}
    # In its first test, TPN's head would make this copy of its last layer.
    assert not any("new_cls" in name for name in model.state_dict)
    clean = results / "clean/val.txt"
    first, second = (
        predicted(lab, results / "model.pth", clean, results / f"{n}/val.pt", workers=n).log_probs
        for n in (0, 1)
    )
    torch.testing.assert_close(first.exp().sum(dim=1), torch.ones(len(first)))
    assert torch.equal(first, second)


def test_kinetics_x3d_gives_all_but_the_head(lab, tmp_path, caplog, capsys):
    results = copy_results(lab, tmp_path, segments=2)
    shutil.copy(results / "clean/train.txt", results / "clean/val.txt")
    chosen = {
        "config": "config/x3d_s_epic_rgb_segments.py",
        "batch_size": 2,
        "workers": 0,
        "device": "cpu",
        "epochs": 1,
    }
    recipe = built(lab, results, **chosen).model
    kinetics = {**recipe, "cls_head": {**recipe.cls_head.head, "num_classes": 400}}
    start, path = MODELS.build(kinetics).state_dict(), tmp_path / "x3d_s_kinetics400.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in start.items()}}, path)
    train(TrainSettings(**chosen, load_from=str(path)), **job(lab, results))
    model = load_model(results / "model.pth")
    assert model.trained_on["load_from"] == str(path)
    outputs = sum(model.outputs.values())
    assert (
        f"566 of 568 tensors; trained anew: cls_head.fc2.weight (400x2048 there, {outputs}x2048 "
        f"here), cls_head.fc2.bias (400 there, {outputs} here)"
    ) in caplog.text
    # MMEngine writes this line about the layer.
    assert "size mismatch for cls_head.fc2.weight" in capsys.readouterr().out
    # One step moves each part of the network, and not far.
    for part in ("backbone.conv1_s", "backbone.layer1", "backbone.layer4", "cls_head.fc1"):
        names = [name for name in start if name.startswith(part) and name.endswith("weight")]
        moved = max(float((start[name] - model.state_dict[name]).abs().max()) for name in names)
        assert 0 < moved < 0.1, part


def test_submissions_have_both_heads_scores_unchanged(lab, tmp_path):
    results = copy_results(lab, tmp_path)
    run(
        lab,
        results,
        heads="verb_noun",
        config="config/slowonly_demo.py",
        label_smoothing=0.1,
        epochs=1,
        batch_size=4,
    )
    clean, val, out = (results / name for name in ("clean/val.txt", "val.pt", "submission.pt"))
    scores = predicted(lab, results / "model.pth", clean, val, clips=2)
    ids = read_segments(clean)["narration_id"].tolist()
    assert scores.narration_ids == ids and not scores.pair_head
    for log_probs in (scores.log_probs, scores.verb_log_probs, scores.noun_log_probs):
        torch.testing.assert_close(log_probs.exp().sum(dim=1), torch.ones(len(ids)))
    sls = {"pt": 0, "tl": 3, "td": 3}
    export(val, results / "segments/val.txt", out, split="val", reduce="heads", sls=sls)
    entries = {entry["narration_id"]: entry for entry in torch.load(out, weights_only=True)}
    for task, log_probs in (("verb", scores.verb_log_probs), ("noun", scores.noun_log_probs)):
        outputs = [entries[narration_id][f"{task}_output"] for narration_id in ids]
        assert torch.equal(torch.stack(outputs), log_probs)
