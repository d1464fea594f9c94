import shutil
from pathlib import Path

import pytest
import torch

from epic100.model.model_file import load_model
from epic100.prediction.predict import PredictSettings, predict
from epic100.scoring.predictions import read_predictions
from epic100.segments.cleaning import join_train_and_val
from epic100.segments.pairs import read_pairs
from epic100.segments.segment_list import read_segments
from epic100.training.run import train
from epic100.training.settings import TrainSettings
from support import small_runs
from support.small_runs import copy_results

pytestmark = pytest.mark.slow

DEMO_CONFIG = "config/x3d_demo.py"
SMALL = small_runs.SMALL | {"train_cfg.val_interval": 100}


def settings(**kwargs):
    defaults = {"config": DEMO_CONFIG, "epochs": 2, "batch_size": 4, "options": SMALL}
    return TrainSettings(**{**defaults, **kwargs})


@pytest.fixture
def results(lab, tmp_path) -> Path:
    """A copy of the lab's results with eight train segments, to train on in seconds."""
    return copy_results(lab, tmp_path, segments=8)


def run(lab, results, out="model.pth", **kwargs):
    path = results / out
    train(settings(**kwargs), path, results=str(results), video_root=lab.root,
          num_verbs=97, num_nouns=300)  # fmt: skip
    return load_model(path)


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(lab, results):
    weights = []
    for seed, out in ((0, "a.pth"), (0, "b.pth"), (1, "c.pth")):
        weights.append(run(lab, results, out, epochs=1, seed=seed).state_dict)
        shutil.rmtree(results / "work_dirs")
    assert same(weights[0], weights[1])
    assert not same(weights[0], weights[2])


def test_the_model_file_holds_all_that_predicting_takes(lab, results):
    model = run(lab, results, epochs=1)
    assert model.trained_on["segments"] == 8 and model.trained_on["epochs"] == 1
    assert len(model.pairs) == len((results / "clean/pairs.tsv").read_text().splitlines()) - 1
    shutil.move(results / "model.pth", results.parent / "elsewhere.pth")
    shutil.rmtree(results / "work_dirs")
    predict(results.parent / "elsewhere.pth", results / "clean/val.txt", results / "val.pt",
            split="val", video_root=lab.root, index_dir=f"{results}/scan",
            settings=PredictSettings(workers=0))  # fmt: skip
    predictions = read_predictions(results / "val.pt", "val")
    ids = read_segments(results / "clean/val.txt")["narration_id"].tolist()
    assert predictions.narration_ids == ids and predictions.trained_on == model.trained_on
    assert torch.allclose(predictions.log_probs.exp().sum(1), torch.ones(len(ids)))


def test_weights_of_another_head_are_taken_but_for_the_last_layer_and_it_is_said(
    lab, results, tmp_path, capsys
):
    first = run(lab, results, epochs=1)
    foreign = {k: v.clone() for k, v in first.state_dict.items()}
    foreign["cls_head.fc2.weight"] = torch.zeros(400, 2048)
    foreign["cls_head.fc2.bias"] = torch.zeros(400)
    torch.save({"state_dict": foreign}, tmp_path / "kinetics.pth")
    shutil.rmtree(results / "work_dirs")
    model = run(lab, results, epochs=1, load_from=str(tmp_path / "kinetics.pth"),
                options={**SMALL, "optim_wrapper.optimizer.lr": 1e-12})  # fmt: skip
    key = "backbone.conv1_s.conv.weight"
    assert torch.allclose(model.state_dict[key], first.state_dict[key], atol=1e-6)
    assert "size mismatch for cls_head.fc2.weight" in capsys.readouterr().out
    assert model.trained_on["load_from"] == str(tmp_path / "kinetics.pth")


def test_training_on_train_and_val_takes_their_pairs_and_validates_on_nothing(lab, results):
    clean = results / "clean"
    lists = [(clean / f"{split}.txt").read_text() for split in ("train", "val")]
    (clean / "val.txt").write_text("".join(lists[1].splitlines(keepends=True)[:4]))
    join_train_and_val(clean / "train.txt", clean / "val.txt", clean / "trainval.txt",
         str(clean / "trainval_pairs.tsv"))  # fmt: skip
    options = SMALL | {"train_cfg.val_interval": 1}
    model = run(lab, results, split="trainval", epochs=1, options=options)
    assert model.trained_on["split"] == "trainval" and model.trained_on["segments"] == 12
    assert model.pairs == read_pairs(clean / "trainval_pairs.tsv")
    log = "".join(path.read_text() for path in results.glob("work_dirs/*/*/*.log"))
    assert "Epoch(train)" in log and "Epoch(val)" not in log


def test_another_backbone_of_mmaction2_trains_and_predicts(lab, results):
    run(lab, results, config="config/slowonly_demo.py", epochs=1)
    settings = PredictSettings(clips=2, workers=0)
    predict(results / "model.pth", results / "clean/val.txt", results / "val.pt", split="val",
            video_root=lab.root, index_dir=f"{lab.results}/scan", settings=settings)  # fmt: skip
    found = read_predictions(results / "val.pt", "val")
    assert found.narration_ids == read_segments(results / "clean/val.txt")["narration_id"].tolist()
    assert torch.allclose(found.log_probs.exp().sum(1), torch.ones(len(found.log_probs)))
