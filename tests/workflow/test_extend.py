"""docs/extend.md: the code and the commands of the page train for an epoch, and predict."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
import wandb

from epic100.base.text_table import write_table
from epic100.cli.workflow import separate_keys
from epic100.data.segment_list import read_segments
from epic100.model.model_file import TrainedModel, load_model, save_model
from epic100.prediction.predict import predict
from epic100.scoring.epoch_table import read_epochs
from epic100.scoring.predictions import Predictions, read_predictions
from epic100.settings.prediction import PredictSettings
from epic100.settings.section import value_of
from epic100.settings.training import TrainSettings
from epic100.training.train import train
from support.checkout import ROOT
from support.small_runs import copy_results, job, settings
from support.zoo import shrunk

PAGE = (ROOT / "docs/extend.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"(?ms)^## (.+?)\n(.*?)(?=^## |\Z)", PAGE))


def blocks(section: str, language: str) -> list[str]:
    """List the blocks of code of a language in a section of the page."""
    return re.findall(rf"(?s)```{language}\n(.*?)```", SECTIONS[section])


def typed(command: str) -> dict[str, Any]:
    """Read the keys that a command `epic100 run KEY=VALUE ...` sets, by dotted name."""
    _, config = separate_keys(shlex.split(command.replace("\\\n", " ")))
    return {
        f"{section}.{key}": value_of(value)
        for section, keys in config.items()
        if isinstance(keys, dict)
        for key, value in keys.items()
    }


class Door:
    """A section of the page, to be used in a folder.

    Attributes:
        modules: The section `modules` of the config, with a folder that has the code of the page.
        results: The folder of results.
    """

    def __init__(self, lab, folder: Path, section: str, number: int = 0, **texts: Any):
        """Write the modules, and read a command of the section with some texts replaced.

        Args:
            lab: The lab.
            folder: An empty folder.
            section: The heading.
            number: The number of the command.
            **texts: Names of files by the text in the command: `hands="hands.csv"` has their paths.
        """
        command = "epic100 run" + "".join(blocks(section, "sh")).split("epic100 run")[1 + number]
        for name, path in texts.items():
            assert name in command
            command = command.replace(name, str(path))
        self.keys = typed(command)
        self.lab, self.results = lab, copy_results(lab, folder, segments=4)
        self.modules = {"folder": str(folder / "lab"), "imports": []}
        for module in self.keys.get("modules.imports", ()):
            self.modules["imports"].append(module)
            (folder / "lab").mkdir()
            code = "\n\n".join(blocks(section, "python"))
            (folder / f"lab/{module}.py").write_text(code, encoding="utf-8")
            # The page says where the code is to be saved.
            assert f"`{self.keys['modules.folder']}/{module}.py`" in SECTIONS[section]

    def settings(self) -> TrainSettings:
        """Make the settings of a small training of one epoch, with the keys of the command."""
        keys = {name[6:]: value for name, value in self.keys.items() if name.startswith("train.")}
        keys = {"epochs": 1, "heads": "both", "workers": 0} | keys
        if "config" not in keys:
            return settings(**keys)
        # The backbone of a recipe of the zoo is not made small, since the page replaces it.
        small = shrunk(Path(keys["config"]).stem)[2].items()
        pictures = {key: size for key, size in small if not key.startswith("model.")}
        keys["options"] = pictures | keys["options"]
        return TrainSettings.model_validate({"batch_size": 2, "device": "cpu"} | keys)

    def train(self) -> TrainedModel:
        """Train for an epoch with the keys of the command, and return the model."""
        train(self.settings(), **job(self.lab, self.results), modules=self.modules)
        return load_model(self.results / "model.pth")

    def predict(self, model: Path | None = None) -> Predictions:
        """Predict val with the trained model, or with another one."""
        out = self.results / "predictions/val.pt"
        clean = self.results / "clean/val.txt"
        predict(
            model or self.results / "model.pth",
            clean,
            out,
            split="val",
            video_root=self.lab.root,
            index_dir=f"{self.lab.results}/scan",
            settings=PredictSettings(workers=0, clips=1),
            modules=self.modules,
        )
        found = read_predictions(out, "val", clean=clean)
        assert found.log_probs.isfinite().all()
        return found

    def logged(self) -> dict[str, float]:
        """Return all figures in MMEngine's log of the training, each with its last value."""
        (scalars,) = self.results.glob("work_dirs/**/vis_data/scalars.json")
        figures: dict[str, float] = {}
        for line in scalars.read_text().splitlines():
            figures |= json.loads(line)
        return figures

    def val_loss(self) -> float:
        """Return the loss of the last validation."""
        return read_epochs(self.results / "training.tsv")["val_loss"].iloc[-1]


def test_a_loss_trains_all_heads_and_validates(lab, tmp_path):
    door = Door(lab, tmp_path, "Loss")
    model = door.train()
    assert model.config["model"]["cls_head"]["loss_cls"] == {"type": "FocalLoss"}
    # The cross-entropies of the heads would be larger.
    assert 0 < door.val_loss() == pytest.approx(door.logged()["epic/loss_cls"], abs=1e-3)
    door.predict()


def test_own_data_sets_and_steps_train_and_predict(lab, tmp_path):
    door = Door(lab, tmp_path, "Data set and pipeline step")
    model = door.train()
    dataset = model.config["test_dataloader"]["dataset"]
    assert (dataset["type"], dataset["share"]) == ("FirstPart", 0.3)
    found = door.predict()
    # The same model with the plain data set sees other frames.
    dataset["type"] = "EpicSegmentVideoDataset"
    save_model(model, tmp_path / "plain.pth")
    plain = door.predict(tmp_path / "plain.pth")
    assert not torch.equal(found.log_probs, plain.log_probs)


def test_a_head_with_another_label_trains(lab, tmp_path):
    lists = [read_segments(f"{lab.results}/clean/{split}.txt") for split in ("train", "val")]
    names = [name for table in lists for name in table["narration_id"]]
    hands = tmp_path / "hands.csv"
    write_table(hands, ["narration_id", "hand"], [[n, i % 3] for i, n in enumerate(names)], ",")
    door = Door(lab, tmp_path, "Head with one more label", **{"hands.csv": hands})
    model = door.train()
    assert model.state_dict["cls_head.fc_hand.weight"].shape == (3, 432)
    figures = door.logged()
    assert {"loss_hand", "hand_acc", "epic/hand_acc", "two_hands"} <= figures.keys()
    expected = figures["epic/loss_cls"] + figures["epic/loss_hand"]
    assert door.val_loss() == pytest.approx(expected, abs=1e-3)
    door.predict()


@pytest.mark.parametrize("number, optimizer", [(0, "Lion"), (1, "TorchAdafactor")])
def test_an_optimizer_and_a_schedule_train(lab, tmp_path, number, optimizer):
    door = Door(lab, tmp_path, "Optimizer and schedule", number)
    model = door.train()
    assert model.config["optim_wrapper"]["optimizer"]["type"] == optimizer
    assert ("PolyLR" in str(model.config["param_scheduler"])) == (number == 0)


def test_trackers_have_the_figures_of_a_training(lab, tmp_path, monkeypatch):
    assert "MLFLOW_ALLOW_FILE_STORE=true epic100 run" in blocks("Trackers", "sh")[0]
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    # The page's folder of MLflow is replaced by one of this test.
    door = Door(lab, tmp_path, "Trackers", **{"file:mlruns": f"file:{tmp_path}/mlruns"})
    door.train()
    # MMEngine leaves their runs open until the process ends.
    mlflow.end_run()
    wandb.finish()
    assert list(door.results.glob("work_dirs/**/events.out.tfevents.*"))
    assert list(door.results.glob("work_dirs/**/wandb/offline-run-*/*.wandb"))
    assert list(tmp_path.glob("mlruns/*/*/metrics/**/loss"))


@pytest.mark.parametrize(
    "section, width", [("Backbone of torchvision", 768), ("Backbone of timm", 512)]
)
def test_a_backbone_of_another_library_trains_and_predicts(lab, tmp_path, section, width):
    door = Door(lab, tmp_path, section)
    model = door.train()
    assert model.config["model"]["cls_head"]["in_channels"] == width
    door.predict()


def test_a_student_learns_from_a_teacher(lab, model, tmp_path):
    teacher = tmp_path / "train.pt"
    predict(
        model,
        f"{lab.results}/clean/train.txt",
        teacher,
        split="train",
        video_root=lab.root,
        index_dir=f"{lab.results}/scan",
        settings=PredictSettings(workers=0, clips=1),
    )
    in_command = "results/runs/teacher/predictions/train.pt"
    # The first command of the section makes the teacher's file, which has this name there.
    assert in_command in blocks("Distillation", "sh")[0].partition(" run=")[0]
    door = Door(lab, tmp_path, "Distillation", number=1, **{in_command: teacher})
    door.train()
    figures = door.logged()
    assert figures["loss_kd"] > 1 and figures["epic/loss_kd"] == 0
    # The teacher's file is not needed any more.
    teacher.unlink()
    door.predict()
