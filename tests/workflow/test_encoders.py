"""The recipes on an encoder of Hugging Face: to a submission, a timeline and features."""

import json
import re
import shutil

import pytest
import torch

from epic100.model.model_file import load_model
from support.archive import configure, jobs, run, said
from support.hugging_face import make_encoder

TARGETS = [
    f"results/{name}"
    for name in ("submission.pt", "model_card.md", "timeline/P02_102.tsv", "features/P02.tsv")
]
THEIRS_ELSEWHERE = {"predict": {"model": "theirs.pth", "encoder": "empty"}}
SMALL = {"encoder": "encoder", "epochs": 1, "batch_size": 4, "workers": 0}


def test_attention_over_frozen_encoders_makes_submissions(cleaned):
    make_encoder(cleaned / "encoder", "vjepa2")
    train = SMALL | {"config": "config/zoo/hf_attentive.py"}
    configure(cleaned, train=train, predict={"workers": 0})
    done = run(cleaned, *TARGETS, "--cores", "2")
    assert "Trial: the training works" in said(done)
    figures = json.loads((cleaned / "results/metrics.json").read_text())
    assert figures["predicted"] == figures["segments"] > 0
    card = (cleaned / "results/model_card.md").read_text()
    assert "- weights: frozen, and not in the file\n" in card
    assert "- license, as its folder states it: apache-2.0\n" in card

    model = load_model(cleaned / "results/model.pth")
    assert not any(name.startswith("backbone.encoder") for name in model.state_dict)
    (saved,) = cleaned.glob("results/work_dirs/*/epoch_1.pth")
    names = torch.load(saved, weights_only=True)["state_dict"].keys()
    assert {name for name in names if name.startswith("backbone")} == {"backbone.digest"}

    # Elsewhere, its folder is named.
    (cleaned / "encoder").rename(cleaned / "moved")
    (cleaned / "results/model.pth").rename(cleaned / "theirs.pth")
    shutil.rmtree(cleaned / "results/predictions")
    theirs = {"model": "theirs.pth", "workers": 0}
    configure(cleaned, predict=theirs)
    done = run(cleaned, "results/predictions/val.pt", well=False)
    assert f"{cleaned / 'encoder'}: moved or changed" in said(done)
    configure(cleaned, predict=theirs | {"encoder": "moved"})
    made = ("results/predictions/val.pt", "results/features/P02.tsv")
    assert jobs(run(cleaned, *made)) == {"predict": 1, "features": 1}
    # The same encoder in another folder repeats nothing.
    (cleaned / "moved").rename(cleaned / "again")
    configure(cleaned, predict=theirs | {"encoder": "again"})
    assert "Nothing to be done" in said(run(cleaned, *made))


def test_linear_heads_fine_tune_an_encoder(cleaned):
    make_encoder(cleaned / "encoder", "clip")
    options = {"model.backbone.frozen": False}
    train = SMALL | {"config": "config/zoo/hf_linear.py", "options": options}
    configure(cleaned, train=train, predict={"workers": 0})
    run(cleaned, "results/model.pth", "--cores", "2")
    # The model has all weights, so nothing else needs the folder.
    shutil.rmtree(cleaned / "encoder")
    (cleaned / "results/model.pth").rename(cleaned / "theirs.pth")
    configure(cleaned, predict={"model": "theirs.pth", "workers": 0})
    run(cleaned, "results/metrics.json", "--cores", "2")


HEADS = SMALL | {"config": "config/zoo/hf_linear.py", "from_scratch": True}


@pytest.mark.parametrize(
    "target, changes, words",
    [
        pytest.param(
            "model.pth",
            {"train": HEADS | {"encoder": None}},
            "`train: encoder:` is None",
            id="none",
        ),
        pytest.param(
            "model.pth",
            {"train": HEADS | {"config": "config/x3d_demo.py"}},
            "the backbone of .*x3d_demo.py is X3D",
            id="a recipe without one",
        ),
        pytest.param(
            "model.pth",
            {"train": HEADS | {"encoder": "gone"}},
            "gone/config.json: cannot be read",
            id="no folder to train on",
        ),
        pytest.param(
            "features/P02.tsv",
            {"features": {"encoder": "hf", "path": "gone"}},
            "gone: no folder with files; expected that of a Hugging Face",
            id="no folder for features",
        ),
        pytest.param(
            "features/P02.tsv",
            {"features": {"encoder": "hf", "path": "empty"}},
            "empty/config.json: cannot be read",
            id="no encoder for features",
        ),
        *(
            pytest.param(target, THEIRS_ELSEWHERE, "empty/config.json: cannot be read", id=target)
            for target in ("predictions/val.pt", "timeline/P02_102.tsv")
        ),
    ],
)
def test_an_unusable_encoder_stops_the_run_early(cleaned, model, target, changes, words):
    make_encoder(cleaned / "encoder", "clip")
    (cleaned / "empty").mkdir()
    # The folder has a file, but no config.json.
    (cleaned / "empty/README.md").touch()
    shutil.copy(model, cleaned / "theirs.pth")
    configure(cleaned, **changes)
    before = set(cleaned.glob("results/logs/*"))
    done = run(cleaned, f"results/{target}", well=False)
    assert re.search(words, said(done))
    assert set(cleaned.glob("results/logs/*")) - before <= {cleaned / "results/logs/trial.log"}
