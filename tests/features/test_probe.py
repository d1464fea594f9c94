"""Probes on tokens of segments: training, the choice of a rate, resuming, and prediction."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.features import probe
from epic100.features.probe import predict_probe, train_probe
from epic100.features.tokens import read_tokens
from epic100.model.model_file import load_model, save_model
from epic100.prediction.hugging_face import HuggingFaceEncoder
from epic100.prediction.probe_model import FORMS, AttentiveProbe
from epic100.report.tables import warning
from epic100.scoring.epoch_table import read_epochs, read_trials
from epic100.scoring.evaluation import evaluate
from epic100.scoring.predictions import read_predictions
from epic100.segments.segment_list import read_clean_list
from epic100.settings import PredictSettings, ProbeSettings, TimelineSettings
from epic100.timeline.model import ModelInUse
from epic100.timeline.run import make_timelines
from support.archive import configure, run
from support.checkout import said
from support.hugging_face import make_encoder
from support.small_features import COLOURS, tokens


@pytest.fixture(scope="module")
def made(lab, tmp_path_factory):
    """The indexes of the tokens of the lab's train and val."""
    return tokens(lab.folder, tmp_path_factory.mktemp("tokens"))


@pytest.fixture
def own(made, tmp_path):
    """The indexes of a copy of the tokens that a test may change."""
    folder = shutil.copytree(made[0].parent, tmp_path / "tokens")
    return [folder / path.name for path in made]


def train(lab, indexes, out, folder=None, val="val", **settings):
    """Train a probe on the lab's train, write its files into `out`, and return the model file."""
    clean = f"{lab.results}/clean"
    train_probe(
        ProbeSettings(**{"epochs": 20, "batch_size": 16, "lr": 3e-3} | settings),
        out / "model.pth",
        out / "training.tsv",
        out / "trials.tsv",
        split="train",
        segments=f"{clean}/train.txt",
        val=f"{clean}/{val}.txt",
        pairs=f"{clean}/pairs.tsv",
        indexes=indexes,
        classes=(97, 300),
        names={},
        folder=folder,
    )
    return out / "model.pth"


def predict(lab, indexes, model, split="train"):
    out, clean = model.parent / f"{split}.pt", f"{lab.results}/clean/{split}.txt"
    predict_probe(model, clean, out, split=split, indexes=indexes)
    return read_predictions(out, split, model=model, clean=clean)


@pytest.mark.parametrize(
    "heads, kind",
    [("pair", "small"), ("verb_noun", "small"), ("both", "small"), ("both", "attentive")],
)
def test_a_probe_learns_the_classes_of_train(lab, made, tmp_path, heads, kind):
    found = predict(lab, made, train(lab, made, tmp_path, heads=heads, kind=kind, epochs=40))
    table = read_clean_list(f"{lab.results}/clean/train.txt")
    best = np.array(found.pairs)[found.log_probs.argmax(dim=1), :2]
    assert (best == table[["verb", "noun"]].to_numpy()).all(axis=1).mean() > 0.8
    assert torch.allclose(found.log_probs.exp().sum(dim=1), torch.ones(len(table)))
    assert (found.verb_log_probs is None) == (heads == "pair")
    # The comparison of supervision levels reads this name.
    assert found.trained_on["load_from"] == COLOURS
    history = read_epochs(tmp_path / "training.tsv")
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    # Every tenth epoch is validated.
    assert history["action_top1"].notna().tolist() == [epoch % 10 == 0 for epoch in range(1, 41)]


@pytest.mark.parametrize("kind", FORMS)
def test_the_scores_of_a_probe_depend_on_the_order_of_tokens(kind):
    torch.manual_seed(0)
    probe = AttentiveProbe(32, 2, kind=kind).eval()
    tokens, padded = torch.randn(1, 2, 32), torch.zeros(1, 2, dtype=torch.bool)
    difference = probe(tokens, padded) - probe(tokens.flip(1), padded)
    # Without positional encoding, only rounding errors of some 1e-7 would differ.
    assert difference.abs().max() > 1e-4


# Two rates with two decays each make four trials.
GRID = {"lr": [1e-5, 3e-3], "weight_decay": [0.01, 0.1], "epochs": 10}


@pytest.mark.parametrize("choose", ["train", "val"])
def test_the_trial_with_the_best_last_accuracy_is_chosen(lab, made, tmp_path, choose):
    # Val is train here, since a probe that learns more is better on it.
    model = load_model(train(lab, made, tmp_path, choose=choose, val="train", **GRID))
    trials = read_trials(tmp_path / "trials.tsv")
    assert len(trials) == 4 and all(len(history) == 10 for history in trials.values())
    chosen = model.config["optim_wrapper"]["optimizer"]
    best = f"lr {chosen['lr']:g}, decay {chosen['weight_decay']:g}"
    ends = {name: history["action_top1"].iloc[-1] for name, history in trials.items()}
    assert ends[best] == max(ends.values()) and (choose == "train" or "0.003" in best)
    assert model.trained_on["chosen_on"] == choose and model.trained_on["chosen_of"] == 4
    history = read_epochs(tmp_path / "training.tsv")
    # A probe that was chosen on held-back videos of train is trained again, on all videos.
    assert history["loss"].equals(trials[best]["loss"]) == (choose == "val")
    assert not list(tmp_path.glob("*.states"))


def test_a_trial_is_the_same_alone_and_beside_others(lab, made, tmp_path):
    # Trials share the random numbers of dropout, so there is none here.
    train(lab, made, tmp_path, choose="val", dropout=0.0, **GRID)
    beside_others = read_trials(tmp_path / "trials.tsv")["lr 0.003, decay 0.1"]
    train(lab, made, tmp_path, dropout=0.0, **GRID | {"lr": 3e-3, "weight_decay": 0.1})
    alone = read_epochs(tmp_path / "training.tsv")
    np.testing.assert_allclose(beside_others["loss"], alone["loss"], rtol=1e-5)


# The choice of the decay and the final training have five epochs each, and save after each one.
@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(2, id="second save, in the choice of the decay"),
        pytest.param(7, id="seventh save, in the final training"),
    ],
)
def test_a_stopped_training_resumes_to_identical_weights(lab, made, tmp_path, monkeypatch, stop):
    settings = GRID | {"lr": 3e-3, "epochs": 5}
    uninterrupted, stopped = tmp_path / "uninterrupted", tmp_path / "stopped"
    expected = train(lab, made, uninterrupted, **settings).read_bytes()
    monkeypatch.setattr(probe, "SAVE_SECONDS", -1.0)
    saves, write_tensors = [], probe.write_tensors

    def write_and_stop(*arguments):
        write_tensors(*arguments)
        saves.append(arguments)
        if len(saves) == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(probe, "write_tensors", write_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(lab, made, stopped, **settings)
    assert not (stopped / "model.pth").exists()
    assert train(lab, made, stopped, **settings).read_bytes() == expected
    # Two trainings of five epochs make ten saves, so no epoch was done twice.
    assert len(saves) == 10
    assert train(lab, made, stopped, **settings, seed=1).read_bytes() != expected


def test_a_saved_state_is_not_used_with_another_val_list(lab, made, tmp_path, monkeypatch):
    # The states stay, as after a stop. In an earlier version, the second training took over the
    # figures of the first val list.
    monkeypatch.setattr(probe.shutil, "rmtree", lambda folder, **options: None)
    train(lab, made, tmp_path, val="train", epochs=10)
    train(lab, made, tmp_path, epochs=10)
    found = read_epochs(tmp_path / "training.tsv")
    new_folder = tmp_path / "new"
    train(lab, made, new_folder, epochs=10)
    expected = read_epochs(new_folder / "training.tsv")
    assert found["action_top1"].equals(expected["action_top1"])


def test_tokens_are_found_by_narration_id(lab, made):
    table = read_clean_list(f"{lab.results}/clean/train.txt")
    all_tokens = read_tokens(table, made, source=None)
    two = read_tokens(table.iloc[[5, 2]], made, all_tokens.source)
    assert torch.equal(two.rows[0], all_tokens.rows[5])
    assert torch.equal(two.rows[1], all_tokens.rows[2])
    # The encoder of colours gives one vector per clip, of 144 values, and the grid has 4 clips.
    assert two.rows[0].shape == (4, 144) and two.rows[0].dtype == torch.float16


def test_only_tokens_of_changed_videos_are_made_again(lab, tmp_path, caplog):
    def kept_videos(**options):
        """The number of videos that the log calls done before, of three; 0 if it names none."""
        caplog.clear()
        tokens(lab.folder, tmp_path, splits=("train",), **options)
        match = re.search(r"going on: (\d+) of 3", caplog.text)
        return int(match[1]) if match else 0

    assert kept_videos() == 0
    assert kept_videos() == 3
    next(tmp_path.glob("train.tokens.shards/*/*")).write_bytes(b"cut")
    assert kept_videos() == 2
    assert kept_videos(grid=(2, 4)) == 0


def change_source(path, **source):
    """Change keys of the source in an index of tokens."""
    content = json.loads(path.read_text())
    content["source"] |= source
    path.write_text(json.dumps(content))


# `own` is the pair of indexes, of train and of val.
@pytest.mark.parametrize(
    "change, words",
    [
        pytest.param(
            lambda own: change_source(own[1], grid=[9, 9]),
            r"val.tokens.json: tokens of .*grid .9, 9.*exp",
            id="another grid",
        ),
        pytest.param(
            lambda own: own[0].write_text("{}"),
            "train.tokens.json: no index of the rule tokens",
            id="another file",
        ),
        pytest.param(lambda own: own[0].unlink(), "train.tokens.json: ", id="no index"),
        pytest.param(
            lambda own: [path.write_bytes(b"PK") for path in own[0].parent.glob("train*/*/*")],
            "gone or broken; make it again: `snakemake --force .*train.tokens.json`",
            id="cut shards",
        ),
        pytest.param(
            lambda own: shutil.copy(own[1], own[0]),
            "train.tokens.shards.*gone or broken",
            id="index of val for train",
        ),
    ],
)
def test_tokens_that_contradict_their_index_are_refused(lab, own, tmp_path, change, words):
    change(own)
    with pytest.raises(EpicError, match=words):
        train(lab, own, tmp_path)
    assert not (tmp_path / "model.pth").exists()


def test_a_probe_refuses_tokens_of_another_encoder(lab, own, tmp_path):
    model = train(lab, own, tmp_path, epochs=1)
    for path in own:
        change_source(path, model="another")
    with pytest.raises(EpicError, match="model another.*; expected those of .*, which the probe"):
        predict(lab, own, model, "val")


def test_a_probe_with_broken_weights_gives_no_predictions(lab, made, tmp_path):
    path = train(lab, made, tmp_path, epochs=1)
    trained = load_model(path)
    for weight in trained.state_dict.values():
        weight.fill_(torch.nan)
    save_model(trained, path)
    with pytest.raises(EpicError, match="gives NaN or infinity; train the probe again"):
        predict(lab, made, path, "val")


def test_a_model_that_is_no_probe_is_refused(lab, model):
    with pytest.raises(EpicError, match="model.pth: a model, but no probe"):
        predict_probe(model, "val.txt", "val.pt", split="val", indexes=[])


@pytest.mark.slow
@pytest.mark.parametrize("kind, grid", [("clip", (8, 2)), ("dinov2", (8, 2)), ("vjepa2", (2, 2))])
def test_a_probe_on_a_hugging_face_encoder_makes_timelines_with_that_encoder_alone(
    kind, grid, lab, tmp_path, monkeypatch, caplog
):
    folder = make_encoder(tmp_path / "encoder", kind)
    # The cache of encoders that were built once is in the current folder.
    monkeypatch.chdir(tmp_path)
    indexes = tokens(lab.folder, tmp_path, "hf", folder, grid)
    model = train(lab, indexes, tmp_path, epochs=1, lr=[1e-3, 1e-4], choose="val", folder=folder)
    predict(lab, indexes, model, "val")
    segments, metrics = f"{lab.results}/segments/val.txt", tmp_path / "metrics.json"
    figures = evaluate(tmp_path / "val.pt", segments, metrics, lists={}, reduce="joint")
    # Two learning rates were tried.
    note = warning(figures, f"{lab.results}/clean/dropped.tsv")
    assert note == "These segments chose among 2 probes."
    film, out = lab.videos["P01_02"].path(lab.root), tmp_path / "timeline"
    settings, predict_on_cpu = TimelineSettings(stride=4.0), {"workers": 0, "device": "cpu"}
    # The model file names the folder of the encoder.
    on_cpu = PredictSettings(**predict_on_cpu)
    make_timelines([film], ModelInUse(model), out, settings=settings, predict=on_cpu)
    assert (out / "P01_02.vtt").read_text().startswith("WEBVTT")
    other = make_encoder(tmp_path / "other", kind, seed=1)
    with_other = PredictSettings(**predict_on_cpu, encoder=str(other))
    with pytest.raises(EpicError, match="other: its fingerprint is .* learned from .*: other wei"):
        make_timelines([film], ModelInUse(model), tmp_path, settings=settings, predict=with_other)
    caplog.clear()
    tokens(lab.folder, tmp_path, "hf", other, grid, splits=("val",))
    assert f"by hf {HuggingFaceEncoder(other).fingerprint[:12]}" in caplog.text
    # The tokens of the first encoder are not used again.
    assert "going on" not in caplog.text


def test_without_transformers_the_error_names_the_extra_to_install(tmp_path, monkeypatch):
    folder = make_encoder(tmp_path / "encoder", "videomae")
    # With None here, an import fails as if the package were not installed.
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EpicError, match=r"not installed; install the extra: .*epic100\[hf\]"):
        HuggingFaceEncoder(folder)("cpu")


# The folder `empty` has no config.json.
HF_WITHOUT_CONFIG = {"features": {"encoder": "hf", "path": "empty"}}


@pytest.mark.parametrize(
    "target, changes, words",
    [
        pytest.param(
            "submission.pt", {"run": None}, "needs a run of its own", id="no run of its own"
        ),
        pytest.param(
            "submission.pt",
            {},
            "results/model.pth: no such model; the probe learns from its features",
            id="features of a missing model",
        ),
        pytest.param(
            "submission.pt",
            {"features": {"encoder": "hf"}},
            "`features: encoder: hf` goes with `path:`, a folder",
            id="no path of the encoder",
        ),
        pytest.param(
            "submission.pt",
            {"features": {"encoder": "hf", "path": "gone"}},
            "gone: no folder with files; expected that of a Hugging Face",
            id="missing folder",
        ),
        pytest.param(
            "submission.pt",
            HF_WITHOUT_CONFIG,
            "empty/config.json: cannot be read",
            id="folder without config",
        ),
        pytest.param(
            "background.json",
            HF_WITHOUT_CONFIG,
            "empty/config.json: cannot be read",
            id="folder without config, for background",
        ),
        pytest.param(
            "timeline/P02_102.tsv",
            HF_WITHOUT_CONFIG,
            "empty/config.json: cannot be read",
            id="folder without config, for a timeline",
        ),
        pytest.param(
            "background.json",
            {"features": {"encoder": "my_lab:MeanColour"}},
            "a probe with `features: encoder: hf` alone, not my_lab:Mean",
            id="background with an encoder of colours",
        ),
    ],
)
def test_an_encoder_that_cannot_be_used_stops_the_run_before_the_first_job(
    clean_archive, tmp_path, target, changes, words
):
    folder = clean_archive(tmp_path / "archive")
    configure(folder, **{"run": "probe", "probe": {}} | changes)
    model = folder / "results/runs/probe/model.pth"
    # The other targets need a trained probe.
    if target != "submission.pt":
        model.parent.mkdir(parents=True)
        model.write_bytes(b"a probe")
    (folder / "empty").mkdir()
    (folder / "empty/README.md").touch()
    done = run(folder, f"results/runs/probe/{target}", well=False)
    assert words in said(done)
    # No job has started.
    assert not (folder / "results/runs/probe/logs").exists()
