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
    for name in ("submission.pt", "model_card.md", "timeline/P02_102.tsv", "features/P02.tsv")
]
THEIRS_ELSEWHERE = {"predict": {"model": "theirs.pth", "encoder": "empty"}}
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
    card = (folder / "results/model_card.md").read_text()
    assert "- weights: frozen, and not in the file\n" in card
    assert "- license, as its folder states it: apache-2.0\n" in card

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
    made = ("results/predictions/val.pt", "results/features/P02.tsv")
    assert jobs(run(folder, *made)) == {"predict": 1, "features": 1}
    # The same encoder in another folder repeats nothing.
    (folder / "moved").rename(folder / "again")
    configure(folder, predict=theirs | {"encoder": "again"})
    assert "Nothing to be done" in said(run(folder, *made))


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


@pytest.mark.parametrize(
    "target, changes, words",
    [
        (
            "features/P02.tsv",
            {"features": {"encoder": "hf", "path": "gone"}},
            "gone: no folder with files; expected that of a Hugging Face",
        ),
        (
            "features/P02.tsv",
            {"features": {"encoder": "hf", "path": "empty"}},
            "empty/config.json: cannot be read",
        ),
        ("predictions/val.pt", THEIRS_ELSEWHERE, "empty/config.json: cannot be read"),
        ("background.json", THEIRS_ELSEWHERE, "empty/config.json: cannot be read"),
        ("timeline/P02_102.tsv", THEIRS_ELSEWHERE, "empty/config.json: cannot be read"),
    ],
)
def test_an_encoder_that_cannot_be_used_stops_the_run_before_the_first_job(
    clean_archive, model, tmp_path, target, changes, words
):
    folder = clean_archive(tmp_path / "archive")
    (folder / "empty").mkdir()
    # The folder has a file, but no config.json.
    (folder / "empty/README.md").touch()
    shutil.copy(model, folder / "theirs.pth")
    configure(folder, **changes)
    done = run(folder, f"results/{target}", well=False)
    assert words in said(done)
    job = target.split("/")[0].removesuffix(".json").replace("predictions", "predict")
    assert not list(folder.glob(f"results/logs/{job}*"))
