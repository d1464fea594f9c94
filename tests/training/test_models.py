"""Other models than the tests' small one: MMAction2's own, X3D-S at its real size, other heads."""

import itertools
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from mmaction.registry import MODELS

from epic100.model.model_file import load_model
from epic100.scoring.evaluation import evaluate
from epic100.segments.pairs import read_pairs, write_pairs
from epic100.segments.segment_list import read_segments
from epic100.settings import TrainSettings
from epic100.submission.export import export
from epic100.training.run import has_model
from epic100.training.train import train
from support.models import predicted
from support.small_runs import built, copy_results, job, run, run_dir

pytestmark = pytest.mark.slow

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize(
    "kind, last",
    [
        ("TPN", "cls_head.fc_cls.weight"),
        ("TRN", "cls_head.consensus.fc_fusion_scales.0.3.weight"),
    ],
)
def test_it_learns_is_stored_with_its_numbers_and_predicts_the_same_each_time(
    lab, tmp_path, kind, last
):
    results = copy_results(lab, tmp_path, segments=4)
    config, path = str(DATA / f"{kind.lower()}.py"), results / "model.pth"
    chosen = {
        "config": config,
        "load_from": None,
        "device": "cpu",
        "epochs": 1,
        "batch_size": 2,
        "validate": {"segments": 2},
    }
    train(TrainSettings.model_validate(chosen), **job(lab, results))
    # A kept model that can be read marks the run as finished.
    assert has_model(run_dir(results))
    model = load_model(path)
    outputs = sum(model.outputs.values())
    assert outputs == len(model.pairs) + (397 if kind == "TRN" else 0) and len(model.pairs) > 4
    head = model.config["model"]["cls_head"]
    assert (head["type"], head["num_classes"]) == (f"{kind}Head", outputs)
    assert len(model.state_dict[last]) == outputs
    assert not any("new_cls" in name for name in model.state_dict)
    if kind == "TPN":
        assert len(model.state_dict["neck.aux_head.fc.weight"]) == outputs
    scores = []
    for workers in (0, 1):
        out = results / f"workers_{workers}/val.pt"
        rows = predicted(lab, path, results / "clean/val.txt", out, workers=workers).log_probs
        torch.testing.assert_close(rows.exp().sum(dim=1), torch.ones(len(rows)))
        scores.append(rows)
    assert torch.equal(*scores)


def test_kinetics_weights_but_the_last_layer_fit_x3d_s_and_one_step_moves_every_layer(
    lab, tmp_path, caplog, capsys
):
    results = copy_results(lab, tmp_path, segments=2)
    shutil.copy(results / "clean/train.txt", results / "clean/val.txt")
    listed, columns = results / "clean/pairs.tsv", ["verb", "noun", "count"]
    every = [*read_pairs(listed), *itertools.product(range(97), range(300), [1])]
    pairs = pd.DataFrame(every, columns=columns).drop_duplicates(columns[:2], ignore_index=True)
    # EPIC_100_train.csv has this many pairs.
    pairs = pairs.head(3568)
    write_pairs(pairs.rename_axis("pair_id").reset_index(), listed)
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
    # There are 2.98 M parameters up to fc1 (with 400 classes 3.8 M in all, as in Feichtenhofer,
    # CVPR 2020, table 4). fc2 has 3,965 x 2,048 and biases.
    assert "11.10 M parameters; 13 frames of 160 x 160" in caplog.text
    assert (
        "566 of 568 tensors; trained anew: cls_head.fc2.weight (400x2048 there, 3965x2048 here), "
        "cls_head.fc2.bias (400 there, 3965 here)"
    ) in caplog.text
    assert "size mismatch for cls_head.fc2.weight" in capsys.readouterr().out
    model = load_model(results / "model.pth")
    now = model.state_dict
    assert model.trained_on["load_from"] == str(path)
    assert now["cls_head.fc2.weight"].shape == (len(pairs) + 97 + 300, 2048)
    moved = [
        name
        for name, value in start.items()
        if "fc2" not in name and not torch.equal(value, now[name])
    ]
    for part in ("backbone.conv1_s", "backbone.layer1", "backbone.layer4", "cls_head.fc1"):
        assert any(name.startswith(part) for name in moved), part
    change = max((start[k].float() - now[k].float()).abs().max() for k in moved if "weight" in k)
    # The weights are one step away from those that were loaded.
    assert change < 0.1


SLOW_ONLY = "config/slowonly_demo.py"


def test_scores_of_the_heads_stand_in_the_submission_as_they_are(lab, tmp_path):
    results = copy_results(lab, tmp_path)
    run(
        lab,
        results,
        heads="verb_noun",
        config=SLOW_ONLY,
        label_smoothing=0.1,
        epochs=1,
        batch_size=4,
    )
    model = load_model(results / "model.pth")
    assert model.heads == "verb_noun" and len(model.state_dict["cls_head.fc_cls.weight"]) == 397
    clean, val, out = (results / name for name in ("clean/val.txt", "val.pt", "submission.pt"))
    found = predicted(lab, results / "model.pth", clean, val, clips=2)
    ids = read_segments(clean)["narration_id"].tolist()
    assert found.narration_ids == ids and not found.pair_head
    for rows in (found.log_probs, found.verb_log_probs, found.noun_log_probs):
        torch.testing.assert_close(rows.exp().sum(dim=1), torch.ones(len(ids)))
    segments = results / "segments/val.txt"
    figures = evaluate(val, segments, results / "metrics.json", lists={}, reduce=None)
    assert set(figures["by_reduce"]) == {"logsumexp", "max", "heads"}
    assert figures["reduce"] == "heads" and figures["action_head_accuracy_at_1"] is None
    export(val, segments, out, split="val", reduce="heads", sls={"pt": 0, "tl": 3, "td": 3})
    entries = {entry["narration_id"]: entry for entry in torch.load(out, weights_only=True)}
    for index, name in enumerate(ids):
        assert torch.equal(entries[name]["verb_output"], found.verb_log_probs[index])
        assert torch.equal(entries[name]["noun_output"], found.noun_log_probs[index])
