"""A checkpoint as MMEngine leaves it after a real, tiny training, with a lab's config and pairs."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
from mmaction.datasets.transforms import DecordInit
from mmaction.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.runner import Runner

import epic100.mmaction  # noqa: F401  (registers what the config names)
from epic100.base.errors import EpicError
from epic100.cli.program import main
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.migrate.checkpoint import migrate_model, order_of_list, read_checkpoint
from epic100.model.model_file import load_model
from epic100.scoring.predictions import read_predictions
from epic100.segments.pairs import write_pairs
from epic100.training.recipe import model_config
from support.archive import configure, jobs, run
from support.crafted import Unpickled
from support.models import predicted
from support.small_runs import SMALL, built, copy_results

pytestmark = pytest.mark.slow

LAB_PIPELINE = [
    dict(type="LabSegmentInit"),
    dict(type="SampleFrames", clip_len=13, frame_interval=6, num_clips=10, test_mode=True,
         out_of_bound_opt="repeat_last"),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(-1, 52)),
    dict(type="ThreeCrop", crop_size=48),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]  # fmt: skip


@TRANSFORMS.register_module()
class LabSegmentInit(DecordInit):
    """What a lab needs to read segments of whole videos: MMAction2's own forgets the segment."""

    def transform(self, results):
        length = results["total_frames"]
        return {**super().transform(results), "total_frames": length}


@dataclass(frozen=True)
class Old:
    """What a lab has: a checkpoint, the train list of its pairs, their order."""

    checkpoint: Path
    train_list: Path
    pairs: list[tuple[int, int]]
    counts: Counter


@pytest.fixture(scope="module")
def old(lab, tmp_path_factory) -> Old:
    folder = tmp_path_factory.mktemp("old")
    results = copy_results(lab, folder)
    lines = Path(lab.results, "clean/train.txt").read_text().splitlines(keepends=True)[::-1]
    train_list = folder / "train.txt"
    train_list.write_text("".join(" ".join(line.split()[:5]) + "\n" for line in lines))
    pairs, counts = order_of_list(train_list, "first-seen")
    assert pairs != sorted(pairs)
    table = [(i, verb, noun, counts[verb, noun]) for i, (verb, noun) in enumerate(pairs)]
    columns = ["pair_id", "verb", "noun", "count"]
    write_pairs(pd.DataFrame(table, columns=columns), results / "clean/pairs.tsv")
    (results / "clean/train.txt").write_text("".join(lines[:8]))
    config = built(lab, results, epochs=1, batch_size=4, validate={"every": 9}, options=SMALL)
    # A lab's config has MMEngine's own loop and checkpoints, MMAction2's own model and reader.
    config = Config(model_config(config))
    config.model.type = "Recognizer3D"
    config.custom_hooks = [hook for hook in config.custom_hooks if hook.type == "SampleSeedHook"]
    del config.default_hooks["telemetry"]
    config.default_hooks.checkpoint = {"type": "CheckpointHook", "interval": 1}
    config.train_cfg.type = "EpochBasedTrainLoop"
    config.val_cfg.type = "ValLoop"
    config.test_dataloader.dataset.pipeline = LAB_PIPELINE
    config.work_dir = str(folder / "work")
    Runner.from_cfg(config).train()
    return Old(folder / "work/epoch_1.pth", train_list, pairs, counts)


def migrated(old, tmp_path, **changes):
    what = {"checkpoint": old.checkpoint, "out": tmp_path / "model.pth", "pairs": old.pairs,
            "counts": old.counts, **changes}  # fmt: skip
    return migrate_model(**what)


def test_weights_come_out_unchanged_without_running_the_file(old):
    # MMEngine leaves more than tensors in the file.
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(old.checkpoint, weights_only=True)
    weights, meta = read_checkpoint(old.checkpoint)
    # The test wrote this file, so it is safe to unpickle.
    whole = torch.load(old.checkpoint, weights_only=False)
    assert weights.keys() == whole["state_dict"].keys() and meta["epoch"] == 1
    assert all(torch.equal(weights[name], whole["state_dict"][name]) for name in weights)


def test_the_migrated_model_predicts_as_the_old_one_does_and_in_its_order(lab, old, tmp_path):
    said = migrated(old, tmp_path)
    assert any("clips: 10, crops: 3" in line for line in said)
    model = load_model(tmp_path / "model.pth")
    assert [pair[:2] for pair in model.pairs] == old.pairs
    assert [pair[2] for pair in model.pairs] == [old.counts[pair] for pair in old.pairs]
    assert model.trained_on["epochs"] == 1
    assert model.trained_on["segments"] == old.counts.total()
    clean = f"{lab.results}/clean/val.txt"
    found = predicted(lab, tmp_path / "model.pth", clean, tmp_path / "val.pt", clips=1,
                      batch_size=4)  # fmt: skip
    ids, expected = by_mmaction2(old, lab, clean)
    assert found.narration_ids == ids != []
    torch.testing.assert_close(found.log_probs, expected, atol=1e-5, rtol=0)
    # The model tells segments apart, by far more than `atol`.
    assert found.log_probs.std(dim=0).max() > 1e-4


def by_mmaction2(old, lab, segments):
    """(ids, log-probabilities) of the old model through MMAction2's own reader, one centre clip."""
    model = MODELS.build(Config.fromfile(next(old.checkpoint.parent.glob("*.py"))).model).eval()
    model.load_state_dict(torch.load(old.checkpoint, weights_only=False)["state_dict"])
    steps = [dict(step) for step in LAB_PIPELINE]
    steps[1]["num_clips"], steps[4] = 1, dict(type="CenterCrop", crop_size=48)
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


def test_the_old_checkpoint_goes_all_the_way_to_a_submission_and_nothing_is_trained(
    new_archive, old, tmp_path
):
    folder = new_archive(tmp_path / "archive")
    words = ["migrate", "model", old.checkpoint, "--train-list", old.train_list, "--order",
             "first-seen"]  # fmt: skip
    assert main([*map(str, words), "--out", str(folder / "lab/model.pth")]) == 0
    configure(folder, predict={"model": "lab/model.pth"})
    done = run(folder, "results/submission.pt", "results/metrics.json")
    assert jobs(done) == {"annotate": 2, "scan": 2, "clean": 1, "predict": 1, "export": 1,
                          "evaluate": 1}  # fmt: skip
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


def test_a_checkpoint_of_a_distributed_training_and_a_bare_state_dict_are_read(old, tmp_path):
    plain, _ = read_checkpoint(old.checkpoint)

    def wrap(content):
        return {f"module.{name}": value for name, value in content["state_dict"].items()}

    weights, meta = read_checkpoint(rewritten(old, tmp_path, wrap))
    assert weights.keys() == plain.keys() and meta == {}
    with pytest.raises(EpicError, match="holds no config of MMAction2 1.x; give it with --config"):
        migrated(old, tmp_path, checkpoint=tmp_path / "changed.pth")


def test_code_in_a_checkpoint_is_not_run(old, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = rewritten(
        old, tmp_path, lambda content: {**content, "trap": Unpickled(os.mkdir, "sprung")}
    )
    with pytest.raises(EpicError, match=r"changed\.pth: .*\(holds posix\.mkdir "):
        read_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


def test_a_file_that_is_no_checkpoint_is_one_error(tmp_path):
    path = tmp_path / "old.pth"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(EpicError, match=r"old\.pth: not readable as a checkpoint .*of MMA"):
        read_checkpoint(path)
    torch.save({"state_dict": {}, "meta": {}}, path)
    with pytest.raises(EpicError, match=r"no weights in it"):
        read_checkpoint(path)


def test_pairs_that_are_not_those_of_the_head_are_refused(old, tmp_path):
    count = len(old.pairs)
    with pytest.raises(EpicError, match=rf"head has {count} outputs, the pair order {count - 1} p"):
        migrated(old, tmp_path, pairs=old.pairs[1:])
    strange = [*old.pairs[:-1], (97, 1)]
    with pytest.raises(EpicError, match=rf"pair {count - 1} is verb 97, noun 1; expected verbs"):
        migrated(old, tmp_path, pairs=strange)
    assert not (tmp_path / "model.pth").exists()


def test_weights_that_are_not_of_the_config_s_model_are_named(old, tmp_path):
    def change(content):
        weights = content["state_dict"]
        weights["cls_head.fc_verb.weight"] = weights.pop("cls_head.fc1.weight")
        weights["cls_head.fc2.bias"] = torch.zeros(3)
        return content

    path = rewritten(old, tmp_path, change)
    with pytest.raises(EpicError) as caught:
        migrated(old, tmp_path, checkpoint=path)
    for words in (
        'Missing key(s) in state_dict: "cls_head.fc1.weight"',
        "fc_verb.weight",
        "size mismatch for cls_head.fc2.bias",
    ):
        assert words in str(caught.value)
    unknown = rewritten(old, tmp_path, lambda c: c | {"meta": {"cfg": c["meta"]["cfg"].replace(
        "type='Recognizer3D'", "type='LabRecognizer'")}})  # fmt: skip
    with pytest.raises(EpicError, match="'LabRecognizer', which is none .*MMAction2 1.2"):
        migrated(old, tmp_path, checkpoint=unknown)


def test_without_counts_all_pairs_are_as_likely_and_it_is_said(old, tmp_path, capsys):
    (tmp_path / "pairs.txt").write_text("".join(f"{v} {n}\n" for v, n in old.pairs))
    out = str(tmp_path / "model.pth")
    arguments = ["migrate", "model", str(old.checkpoint), "--out", out, "--pairs",
                 str(tmp_path / "pairs.txt")]  # fmt: skip
    assert main(arguments) == 0
    assert "no count, all alike" in capsys.readouterr().out
    assert [pair[2] for pair in load_model(out).pairs] == [1] * len(old.pairs)
    assert main([*arguments, "--train-list", str(old.train_list)]) == 0
    assert [pair[2] for pair in load_model(out).pairs] == [old.counts[pair] for pair in old.pairs]
    assert [pair[:2] for pair in load_model(out).pairs] == old.pairs
    assert main(["migrate", "model", str(old.checkpoint), "--out", out]) == 1
    assert "--pairs or --train-list" in capsys.readouterr().err
