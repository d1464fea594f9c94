"""A checkpoint as MMEngine leaves it after a real, tiny training, with a lab's config and pairs."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from mmaction.datasets.transforms import DecordInit
from mmaction.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.runner import Runner

import epic100.mmaction  # noqa: F401  (registers what the config names)
from epic100.base.errors import EpicError
from epic100.cli.lab_checkpoint import migrate_model, pairs_in_output_order, read_checkpoint
from epic100.cli.program import main
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.data.pairs import write_pairs
from epic100.model.mmaction_import import build
from epic100.model.model_file import load_model
from epic100.scoring.predictions import read_predictions
from epic100.training.recipe import model_config
from support.archive import configure, jobs, run
from support.models import predicted
from support.small_runs import SMALL, built, copy_results

pytestmark = pytest.mark.slow

LAB_PIPELINE = [
    {"type": "LabSegmentInit"},
    {
        "type": "SampleFrames",
        "num_clips": 10,
        "clip_len": 13,
        "frame_interval": 6,
        "test_mode": True,
        "out_of_bound_opt": "repeat_last",
    },
    {"type": "DecordDecode"},
    {"type": "Resize", "scale": (-1, 52)},
    {"type": "ThreeCrop", "crop_size": 48},
    {"type": "FormatShape", "input_format": "NCTHW"},
    {"type": "PackActionInputs"},
]


@TRANSFORMS.register_module()
class LabSegmentInit(DecordInit):
    """What a lab needs to read segments of whole videos: MMAction2's own forgets the segment."""

    def transform(self, results):
        length = results["total_frames"]
        return {**super().transform(results), "total_frames": length}


@pytest.fixture(scope="module")
def old(lab, tmp_path_factory):
    """What a lab has: a checkpoint, the train list of its pairs, their order."""
    folder = tmp_path_factory.mktemp("old")
    results = copy_results(lab, folder)
    lines = Path(lab.results, "clean/train.txt").read_text().splitlines(keepends=True)[::-1]
    train_list = folder / "train.txt"
    train_list.write_text("".join(" ".join(line.split()[:5]) + "\n" for line in lines))
    pairs, counts = pairs_in_output_order(train_list, "first-seen")
    assert pairs != sorted(pairs)
    table = [(i, verb, noun, counts[verb, noun]) for i, (verb, noun) in enumerate(pairs)]
    columns = ["pair_id", "verb", "noun", "count"]
    write_pairs(pd.DataFrame(table, columns=columns), results / "clean/pairs.tsv")
    (results / "clean/train.txt").write_text("".join(lines[:8]))
    config = built(lab, results, epochs=1, batch_size=4, validate={"every": 9}, options=SMALL)
    # A lab's config has MMEngine's own loop and checkpoints, MMAction2's own model and reader.
    config = Config(model_config(config))
    config.model.type = "Recognizer3D"
    del config.default_hooks["epoch"]
    config.default_hooks.param_scheduler.type = "ParamSchedulerHook"
    config.default_hooks.checkpoint = {"type": "CheckpointHook", "interval": 1}
    config.train_cfg.type = "EpochBasedTrainLoop"
    config.val_cfg.type = "ValLoop"
    config.test_dataloader.dataset.pipeline = LAB_PIPELINE
    config.work_dir = str(folder / "work")
    Runner.from_cfg(config).train()
    checkpoint = folder / "work/epoch_1.pth"
    return SimpleNamespace(checkpoint=checkpoint, train_list=train_list, pairs=pairs, counts=counts)


def migrated(old, tmp_path, **changes):
    arguments = {"checkpoint": old.checkpoint, "pairs": old.pairs, "counts": old.counts, **changes}
    return migrate_model(out=tmp_path / "model.pth", **arguments)


def test_the_migrated_model_predicts_as_the_old_one(lab, old, tmp_path):
    said = migrated(old, tmp_path)
    assert any("clips: 10, crops: 3" in line for line in said)
    model = load_model(tmp_path / "model.pth")
    assert model.pairs == [(*pair, old.counts[pair]) for pair in old.pairs]
    assert model.trained_on["epochs"] == 1
    assert model.trained_on["segments"] == old.counts.total()
    clean = f"{lab.results}/clean/val.txt"
    file = tmp_path / "val.pt"
    found = predicted(lab, tmp_path / "model.pth", clean, file, clips=1, batch_size=4)
    ids, expected = by_mmaction2(old, lab, clean)
    assert ids
    assert found.narration_ids == ids
    torch.testing.assert_close(found.log_probs, expected, atol=1e-5, rtol=0)
    # The model tells segments apart, by far more than `atol`.
    assert found.log_probs.std(dim=0).max() > 1e-4


def by_mmaction2(old, lab, segments):
    """(ids, log-probabilities) of the old model through MMAction2's own reader, one centre clip."""
    model = build(Config.fromfile(next(old.checkpoint.parent.glob("*.py"))).model).eval()
    model.load_state_dict(torch.load(old.checkpoint, weights_only=False)["state_dict"])
    steps = [dict(step) for step in LAB_PIPELINE]
    steps[1]["num_clips"], steps[4]["type"] = 1, "CenterCrop"
    steps[6]["meta_keys"] = ("narration_id",)
    dataset = EpicSegmentVideoDataset(segments, steps, data_root=lab.root, test_mode=True)
    ids, rows = [], []
    for sample in (dataset[place] for place in range(len(dataset))):
        batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
        with torch.inference_mode():
            inputs = model.data_preprocessor(batch, False)["inputs"]
            scores = model.cls_head(model.extract_feat(inputs, test_mode=True)[0])
        rows.append(scores.log_softmax(dim=1))
        ids.append(sample["data_samples"].narration_id)
    return ids, torch.cat(rows)


def test_a_checkpoint_becomes_a_submission_without_training(new_archive, old, tmp_path):
    folder = new_archive(tmp_path / "archive")
    words = ["migrate", "model", old.checkpoint, "--out", folder / "lab/model.pth"]
    words += ["--train-list", old.train_list, "--order", "first-seen"]
    assert main([*map(str, words)]) == 0
    configure(folder, predict={"model": "lab/model.pth"})
    done = run(folder, "results/submission.pt", "results/metrics.json")
    once = dict.fromkeys(("clean", "predict", "export", "evaluate"), 1)
    assert jobs(done) == {"annotate": 2, "scan": 2, **once}
    entries = torch.load(folder / "results/submission.pt", weights_only=True)
    assert len(entries) == len((folder / "results/segments/val.txt").read_text().splitlines())
    predictions = read_predictions(folder / "results/predictions/val.pt", "val")
    assert [pair[:2] for pair in predictions.pairs] == old.pairs
    assert not (folder / "results/model.pth").exists()


def rewritten(old, tmp_path, change):
    """The old checkpoint with something done to it."""
    # The test wrote this file, so it is safe to unpickle.
    content = torch.load(old.checkpoint, weights_only=False)
    torch.save(change(content), tmp_path / "changed.pth")
    return tmp_path / "changed.pth"


def as_distributed(content):
    """The weights alone, with the names that they have in a distributed training."""
    return {f"module.{name}": value for name, value in content["state_dict"].items()}


def of_another_config(content):
    """One weight has another name, and one another shape."""
    weights = content["state_dict"]
    weights["cls_head.fc_verb.weight"] = weights.pop("cls_head.fc1.weight")
    weights["cls_head.fc2.bias"] = torch.zeros(3)
    return content


def diverged(content):
    """One weight is infinite."""
    content["state_dict"]["cls_head.fc2.bias"][0] = float("inf")
    return content


@pytest.mark.parametrize(
    "change, words",
    [
        (as_distributed, "holds no config of MMAction2 1.x; give it with --config"),
        (
            of_another_config,
            'Missing key.*: "cls_head.fc1.weight".*fc_verb.weight.*size mismatch for cls_head.fc2',
        ),
        (diverged, r"changed\.pth: cls_head\.fc2\.bias has NaN or infinite"),
        (
            lambda content: {"state_dict": {}, "meta": {}},
            r"changed\.pth: no weights in it; expected",
        ),
    ],
)
def test_a_checkpoint_that_cannot_predict_is_one_error(change, words, old, tmp_path):
    checkpoint = rewritten(old, tmp_path, change)
    with pytest.raises(EpicError, match=words):
        migrated(old, tmp_path, checkpoint=checkpoint)
    assert not (tmp_path / "model.pth").exists()


def test_a_bare_distributed_state_dict_is_read(old, tmp_path):
    weights, meta = read_checkpoint(rewritten(old, tmp_path, as_distributed))
    assert weights.keys() == read_checkpoint(old.checkpoint)[0].keys() and meta == {}


def test_pairs_of_another_head_are_rejected(old, tmp_path):
    count = len(old.pairs)
    with pytest.raises(EpicError, match=rf"head has {count} outputs, the pair order {count - 1} p"):
        migrated(old, tmp_path, pairs=old.pairs[1:])
    strange = [*old.pairs[:-1], (97, 1)]
    with pytest.raises(EpicError, match=rf"pair {count - 1} is verb 97, noun 1; expected verbs"):
        migrated(old, tmp_path, pairs=strange)
    assert not (tmp_path / "model.pth").exists()


def test_without_counts_all_pairs_are_as_likely(old, tmp_path, capsys):
    order, out = tmp_path / "pairs.txt", str(tmp_path / "model.pth")
    order.write_text("".join(f"{verb} {noun}\n" for verb, noun in old.pairs))
    arguments = ["migrate", "model", str(old.checkpoint), "--out", out]
    assert main([*arguments, "--pairs", str(order)]) == 0
    assert "no count, all alike" in capsys.readouterr().out
    assert load_model(out).pairs == [(*pair, 1) for pair in old.pairs]
    assert main([*arguments, "--pairs", str(order), "--train-list", str(old.train_list)]) == 0
    assert load_model(out).pairs == [(*pair, old.counts[pair]) for pair in old.pairs]
    assert main(arguments) == 1
    assert "--pairs or --train-list" in capsys.readouterr().err
