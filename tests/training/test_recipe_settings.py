"""Heads of two backbones, from the settings through the DAG's own files."""

import json

import pytest
import torch

from epic100.model.model_file import load_model
from epic100.scoring.evaluation import evaluate
from epic100.segments.segment_list import read_segments
from epic100.submission.export import export
from support.random_model import predicted
from support.small_runs import DEMO, copy_results, over_the_segment, run

pytestmark = pytest.mark.slow

HEADS = {DEMO: "cls_head.fc2.weight", "config/slowonly_demo.py": "cls_head.fc_cls.weight"}


@pytest.mark.parametrize("heads, config", [
    ("verb_noun", "config/slowonly_demo.py"), ("both", DEMO),
])  # fmt: skip
def test_heads_of_two_backbones_go_from_training_to_the_submission(lab, tmp_path, heads, config):
    results = copy_results(lab, tmp_path)
    run(lab, results, over_the_segment(config), heads=heads, config=config, label_smoothing=0.1,
        epochs=1, batch_size=4)  # fmt: skip
    model = load_model(results / "model.pth")
    pairs = len(model.pairs)
    assert model.heads == heads
    assert model.state_dict[HEADS[config]].shape[0] == (397 + (pairs if heads == "both" else 0))
    clean, val = results / "clean/val.txt", results / "val.pt"
    found = predicted(lab, results / "model.pth", clean, val, clips=2)
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
