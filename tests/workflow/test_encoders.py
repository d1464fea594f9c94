"""The recipes on an encoder of Hugging Face: to a submission, a timeline and features."""

import json
import re
import shutil

import pytest
import torch

from epic100.model.model_file import load_model
from support.archive import configure, jobs, run, said
from support.hugging_face import make_encoder

pytestmark = pytest.mark.slow

TARGETS = [
    f"results/{name}"
    for name in ("submission.pt", "metrics.json", "timeline/P02_102.tsv", "features/P02.tsv")
]
SMALL = {"encoder": "encoder", "epochs": 1, "batch_size": 4, "workers": 0}


def test_attention_over_a_frozen_encoder_goes_to_a_submission(clean_archive, tmp_path):
    folder = clean_archive(tmp_path / "archive")
    make_encoder(folder / "encoder", "vjepa2")
    train = SMALL | {"config": "config/zoo/hf_attentive.py"}
    configure(folder, train=train, predict={"workers": 0})
    done = run(folder, *TARGETS, "--cores", "2")
    assert "Trial: the training works" in said(done)
    figures = json.loads((folder / "results/metrics.json").read_text())
    assert figures["predicted"] == figures["segments"] > 0

    model = load_model(folder / "results/model.pth")
    assert not any(name.startswith("backbone.encoder") for name in model.state_dict)
    (saved,) = folder.glob("results/work_dirs/*/epoch_1.pth")
    names = torch.load(saved, weights_only=True)["state_dict"].keys()
    assert {name for name in names if name.startswith("backbone")} == {"backbone.digest"}

    # Elsewhere, its folder is named.
    (folder / "encoder").rename(folder / "moved")
    (folder / "results/model.pth").rename(folder / "theirs.pth")
    shutil.rmtree(folder / "results/predictions")
    theirs = {"model": "theirs.pth", "workers": 0}
    configure(folder, predict=theirs)
    done = run(folder, "results/predictions/val.pt", well=False)
    assert f"{folder / 'encoder'}: moved or changed" in said(done)
    configure(folder, predict=theirs | {"encoder": "moved"})
    assert jobs(run(folder, "results/predictions/val.pt")) == {"predict": 1}


def test_linear_heads_on_an_encoder_that_is_fine_tuned(clean_archive, tmp_path):
    folder = clean_archive(tmp_path / "archive")
    make_encoder(folder / "encoder", "clip")
    options = {"model.backbone.frozen": False}
    train = SMALL | {"config": "config/zoo/hf_linear.py", "options": options}
    configure(folder, train=train, predict={"workers": 0})
    run(folder, "results/model.pth", "--cores", "2")
    # The model has all weights, so nothing else needs the folder.
    shutil.rmtree(folder / "encoder")
    (folder / "results/model.pth").rename(folder / "theirs.pth")
    configure(folder, predict={"model": "theirs.pth", "workers": 0})
    run(folder, "results/metrics.json", "--cores", "2")


@pytest.mark.parametrize(
    "train, words",
    [
        ({"encoder": None}, "`train: encoder:` is None"),
        ({"config": "config/x3d_demo.py"}, "the backbone of .*x3d_demo.py is X3D"),
        ({"encoder": "gone"}, "gone/config.json: cannot be read"),
    ],
)
def test_a_run_without_a_folder_or_a_recipe_for_it_ends_before_its_first_job(
    clean_archive, tmp_path, train, words
):
    folder = clean_archive(tmp_path / "archive")
    make_encoder(folder / "encoder", "clip")
    train = SMALL | {"config": "config/zoo/hf_linear.py", "from_scratch": True} | train
    configure(folder, train=train)
    done = run(folder, "results/model.pth", well=False)
    assert re.search(words, said(done)) and not (folder / "results/logs/train.log").exists()
