"""Heads for verbs and nouns alone, on another backbone, from the training to the submission.

Three heads go the whole way in tests/workflow/test_zoo.py.
"""

import pytest
import torch

from epic100.model.model_file import load_model
from epic100.scoring.evaluation import evaluate
from epic100.segments.segment_list import read_segments
from epic100.submission.export import export
from support.random_model import predicted
from support.small_runs import copy_results, run

pytestmark = pytest.mark.slow

SLOW_ONLY = "config/slowonly_demo.py"


def test_scores_of_the_heads_stand_in_the_submission_as_they_are(lab, tmp_path):
    results = copy_results(lab, tmp_path)
    run(lab, results, heads="verb_noun", config=SLOW_ONLY, label_smoothing=0.1, epochs=1,
        batch_size=4)  # fmt: skip
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
