"""The folder of a training: its fingerprint, its files, and its finished model."""

import json
import re
import runpy
import shutil
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from types import ModuleType

import mmaction
import pandas as pd
import pytest
import torch

from epic100.base.own_modules import code_digests
from epic100.scoring.epoch_table import COLUMNS
from epic100.settings.section import extras_of
from epic100.settings.training import TrainSettings
from epic100.training.train import fingerprint, open_run
from support.checkout import python, said
from support.hugging_face import make_encoder
from support.small_runs import DEMO, SMALL, WHOLE, built, copy_results, run, run_dir, same

pytestmark = pytest.mark.slow

TOOLS = Path(mmaction.__file__).parent / ".mim/tools"
MY_LOSS = "from my_parts import scale\n"


@pytest.fixture
def print_of(lab, tmp_path):
    """Make the fingerprint of a training with these settings."""
    results = copy_results(lab, tmp_path)
    # A split `trainval` has lists of its own; any lists serve here.
    shutil.copy(results / "clean/val.txt", results / "clean/trainval.txt")
    shutil.copy(results / "clean/pairs.tsv", results / "clean/trainval_pairs.tsv")
    return lambda **settings: fingerprint(built(lab, results, **settings), {})


# Each of these settings makes another training.
ANOTHER = {
    "config": "config/slowonly_demo.py",
    "split": "trainval",
    "load_from": __file__,  # Any file serves here.
    "epochs": 3,
    "batch_size": 4,
    "seed": 1,
    "options": {"optim_wrapper.optimizer.lr": 0.5},
    "scale_lr": False,
    "label_smoothing": 0.2,
    "ema": 0.9,
    "dropout": 0.3,
    "heads": "both",
    "precision": "bf16",
    "bn": "frozen",
}
# These say how it is loaded, computed, saved and validated, and not what it learns.
HARMLESS = {
    "workers": 3,
    "validate": {"every": 3, "segments": 2},
    "device": "cpu",
    "gpus": 0,
    "nodes": 2,
    "channels_last": False,
    "compile": True,
    "accumulate": 2,
}


def test_each_setting_is_in_one_table():
    # Like `load_from`, two of these decide which start weights are read. An encoder has a test of
    # its own, since only its own recipes take one.
    left_out = {"load_from_sha256", "from_scratch", "encoder"}
    names = set(TrainSettings.fields_by_key()) - left_out
    assert {*ANOTHER, *HARMLESS} == names
    fields = TrainSettings.model_fields.items()
    in_a_sweep = {*ANOTHER, "encoder"} - {"split", "load_from"}
    assert {n for n, f in fields if extras_of(f)["sweep"]} == in_a_sweep


@pytest.mark.parametrize("name", [*ANOTHER, *HARMLESS])
def test_a_learned_setting_changes_the_fingerprint(print_of, name):
    chosen = {name: (ANOTHER | HARMLESS)[name]}
    assert TrainSettings.model_validate(chosen) != TrainSettings()
    assert (print_of() != print_of(**chosen)) == (name in ANOTHER)


def test_only_another_encoder_is_another_training(print_of, tmp_path):
    folder = make_encoder(tmp_path / "encoder", "clip")
    other = make_encoder(tmp_path / "other", "clip", seed=1)
    moved = shutil.copytree(folder, tmp_path / "moved")
    of_encoder = partial(print_of, config="config/zoo/hf_linear.py")
    assert of_encoder(encoder=str(folder)) == of_encoder(encoder=str(moved))
    assert of_encoder(encoder=str(folder)) != of_encoder(encoder=str(other))


@pytest.mark.parametrize("file", ["clean/train.txt", "clean/pairs.tsv"])
def test_other_lists_make_another_training(print_of, tmp_path, file):
    before = print_of()
    with (tmp_path / "results" / file).open("ab") as changed:
        changed.write(b"\n")
    assert before != print_of()


@pytest.mark.parametrize("file, words", [("my_loss.py", "MORE = 1\n"), ("my_parts.py", "")])
def test_an_edited_module_makes_another_training(tmp_path, monkeypatch, file, words):
    """An edited loss was answered with the old model."""
    (tmp_path / "my_loss.py").write_text(MY_LOSS)
    (tmp_path / "my_parts.py").write_text("scale = 2\n")
    recipe = tmp_path / "recipe.py"
    recipe.write_text('custom_imports = dict(imports=["epic100.mmaction", "my_loss"])\n')
    top = tmp_path / "top.py"
    top.write_text('_base_ = ["recipe.py"]\n')
    digests = [code_digests(top, {"folder": str(tmp_path)})]
    (tmp_path / file).write_text(words)
    digests.append(code_digests(top, {"folder": str(tmp_path)}))
    assert digests[0].keys() == {"my_loss", "my_parts"} and digests[0] != digests[1]


def test_each_epoch_is_a_row_of_the_table(straight):
    text = (straight.results / "training.tsv").read_text()
    assert text == (run_dir(straight.results) / "training.tsv").read_text()
    assert tuple(text.splitlines()[0].split("\t")) == COLUMNS
    rows = pd.read_csv(straight.results / "training.tsv", sep="\t")
    # An epoch has 3 iterations of 2 segments.
    assert rows["epoch"].tolist() == [1, 2, 3] and rows["iter"].tolist() == [3, 6, 9]
    assert (rows["samples_per_s"] * rows["seconds"]).round(3).tolist() == [6, 6, 6]
    assert rows["data_share"].between(0, 1).all()
    # The rate of the recipe, 0.003 for a batch of 8, is scaled to a batch of 2, then falls.
    assert rows["lr"][0] == pytest.approx(0.003 * 2 / 8) and rows["lr"][2] < rows["lr"][0]
    # The first epoch is not validated.
    metrics = rows.loc[:, "val_loss":"action_top5"]
    assert metrics.iloc[0].isna().all() and metrics.iloc[1:].notna().all(axis=None)


def test_the_log_and_its_tools_are_mmengine_s(straight, monkeypatch, capsys):
    assert re.search(r"Epoch\(train\) +\[2\]\[3/3\] .*eta: .*loss: ", straight.said)
    (log,) = run_dir(straight.results).glob("*/vis_data/scalars.json")
    assert list(log.parent.glob("events.out.tfevents.*"))
    # The tool needs seaborn for its curves only.
    monkeypatch.setitem(sys.modules, "seaborn", ModuleType("seaborn"))
    tool = runpy.run_path(str(TOOLS / "analysis_tools/analyze_logs.py"))
    arguments = Namespace(json_logs=[log], include_outliers=True)
    tool["cal_train_time"](tool["load_json_logs"]([log]), arguments)
    assert re.search(r"average iter time: \d+\.\d+ s/iter", capsys.readouterr().out)


def test_the_average_and_best_epoch_are_kept(straight):
    folder, key = run_dir(straight.results), "backbone.conv1_s.conv.weight"
    state = torch.load(folder / "epoch_3.pth", weights_only=True)
    # EMAHook saves the average as the model, and the last weights beside it.
    assert torch.equal(straight.weights[key], state["state_dict"][key])
    assert not torch.equal(straight.weights[key], state["ema_state_dict"][f"module.{key}"])
    (best,) = folder.glob("best_*.pth")
    scores = pd.read_csv(folder / "training.tsv", sep="\t")["action_top1"]
    # The index of the first row is 0, its epoch 1.
    epoch = torch.load(best, weights_only=True)["meta"]["epoch"]
    assert epoch == scores.idxmax() + 1
    assert sorted(path.name for path in folder.glob("epoch_*")) == ["epoch_2.pth", "epoch_3.pth"]


def test_another_seed_trains_again(lab, straight, tmp_path, caplog):
    results = shutil.copytree(straight.results, tmp_path / "results")
    outputs = [results / "model.pth", results / "training.tsv"]
    contents = [path.read_bytes() for path in outputs]
    for path in outputs:  # Snakemake removes outputs.
        path.unlink()
    # The number of workers makes no other training.
    assert same(run(lab, results, workers=0, **WHOLE), straight.weights)
    assert [path.read_bytes() for path in outputs] == contents
    folder = run_dir(results)
    assert f"{folder} has the finished model" in caplog.text
    assert not same(run(lab, results, seed=1, **WHOLE), straight.weights)
    assert f"a new training; {folder} differs in " in caplog.text
    assert "randomness.seed" in caplog.text


def test_a_slow_loader_is_said_once_an_epoch(lab, tmp_path, caplog):
    options = {"default_hooks.epoch.enough": 2, "default_hooks.epoch.limit": 0}
    run(lab, copy_results(lab, tmp_path, segments=6), options, epochs=2)
    assert caplog.text.count("loading is the limit: ") == 2 and "clips/s come" in caplog.text


@pytest.mark.thorough
def test_mmaction2_s_tool_trains_and_resumes_recipes(lab, tmp_path):
    """The tool knows nothing of the workflow: its process imports only what the config names."""
    # The config finds `videos` and `results` in the folder of the call.
    copy_results(lab, tmp_path)
    (tmp_path / "videos").symlink_to(lab.root)
    folder = tmp_path / "own"
    options = SMALL | {"train_dataloader.batch_size": 2, "train_cfg.max_epochs": 2}
    chosen = [f"{key}={value}".replace(" ", "") for key, value in options.items()]
    command = [TOOLS / "train.py", Path(DEMO).absolute(), "--work-dir", folder]

    def train(*more):
        done = python(*command, *more, "--cfg-options", *chosen, cwd=tmp_path)
        return torch.load(folder / "epoch_2.pth", weights_only=True)["state_dict"], said(done)

    whole, _ = train()
    (folder / "last_checkpoint").write_text(str(folder / "epoch_1.pth"))
    resumed, output = train("--resume")
    assert "resumed epoch: 1, iter: 4" in output and same(resumed, whole)


@pytest.mark.parametrize("text", ["[1]", "{", ""])
def test_a_spoilt_fingerprint_of_another_training_stops_none(lab, tmp_path, text):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/fingerprint.json").write_text(text)
    content = json.loads((open_run(tmp_path, built(lab), {}) / "fingerprint.json").read_text())
    assert content["randomness.seed"] == "0" and len(content["clean list"]) == 64
