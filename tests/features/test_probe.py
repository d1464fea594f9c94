"""A probe on tokens of segments: what it learns, sees, chooses and refuses."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.features import probe
from epic100.features.probe import Trial, fit, predict_probe, train_probe
from epic100.features.tokens import Tokens, read_tokens
from epic100.model.model_file import load_model
from epic100.prediction.hugging_face import HuggingFaceFolder
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
    """A copy of the tokens that a test may spoil."""
    folder = shutil.copytree(made[0].parent, tmp_path / "tokens")
    return [folder / path.name for path in made]


def train(lab, made, out, folder=None, val="val", **settings):
    outputs = [out / name for name in ("model.pth", "training.tsv", "trials.tsv")]
    clean = f"{lab.results}/clean"
    train_probe(
        ProbeSettings(**{"epochs": 20, "batch_size": 16, "lr": 3e-3} | settings),
        *outputs,
        split="train",
        segments=f"{clean}/train.txt",
        val=f"{clean}/{val}.txt",
        pairs=f"{clean}/pairs.tsv",
        indexes=made,
        classes=(97, 300),
        names={},
        folder=folder,
    )
    return outputs[0]


def probed(lab, made, model, split="train"):
    out, clean = model.parent / f"{split}.pt", f"{lab.results}/clean/{split}.txt"
    predict_probe(model, clean, out, split=split, indexes=made)
    return read_predictions(out, split, model=model, clean=clean)


@pytest.mark.parametrize("heads", ["pair", "verb_noun", "both"])
def test_it_learns_what_it_is_shown(lab, made, tmp_path, heads):
    found = probed(lab, made, train(lab, made, tmp_path, heads=heads, epochs=40))
    table = read_clean_list(f"{lab.results}/clean/train.txt")
    best = np.array(found.pairs)[found.log_probs.argmax(dim=1), :2]
    assert (best == table[["verb", "noun"]].to_numpy()).all(axis=1).mean() > 0.8
    assert torch.allclose(found.log_probs.exp().sum(dim=1), torch.ones(len(table)))
    assert (found.verb_log_probs is None) == (heads == "pair")
    # The supervision levels are checked against this.
    assert found.trained_on["load_from"] == COLOURS
    history = read_epochs(tmp_path / "training.tsv")
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert history["action_top1"].notna().tolist() == [not epoch % 10 for epoch in range(1, 41)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMS)
def test_it_sees_the_order_of_rows(kind, tmp_path):
    """On segments of two rows, whose order alone is the class."""
    settings, loss = ProbeSettings(kind=kind, epochs=25), torch.nn.functional.cross_entropy
    for seed in range(2):
        torch.manual_seed(seed)
        both, labels = torch.randn(2, 32), torch.randint(0, 2, (600,))
        rows = [both[[label, 1 - label]] + 0.3 * torch.randn(2, 32) for label in labels.tolist()]
        probe = AttentiveProbe(32, 2, settings.dropout, kind)
        learned, state = Tokens(rows[:200], {}), tmp_path / f"{seed}.pt"
        trial = Trial(probe, 1e-3, 0.05)
        fit([trial], learned, labels[:200], loss, settings, lambda _: {}, state)
        ((_, feats, padded),) = Tokens(rows[200:], {}).batches(range(400), 400)
        with torch.inference_mode():
            right = probe.eval()(feats, padded).argmax(dim=1) == labels[200:]
        assert right.float().mean() >= 0.99


GRID = {"lr": [1e-5, 3e-3], "weight_decay": [0.01, 0.1], "epochs": 10}


@pytest.mark.parametrize("choose", ["train", "val"])
def test_of_several_rates_and_decays_the_best_on_held_back_videos_or_val_is_taken(
    lab, made, tmp_path, choose
):
    # Here val is train, on which the higher rates are the best.
    easy = {"val": "train"} if choose == "val" else {}
    model = load_model(train(lab, made, tmp_path, choose=choose, **easy, **GRID))
    trials = read_trials(tmp_path / "trials.tsv")
    assert len(trials) == 4 and all(len(history) == 10 for history in trials.values())
    chosen = model.config["optim_wrapper"]["optimizer"]
    best = f"lr {chosen['lr']:g}, decay {chosen['weight_decay']:g}"
    ends = {name: history["action_top1"].iloc[-1] for name, history in trials.items()}
    assert ends[best] == max(ends.values()) and (choose == "train" or "0.003" in best)
    assert model.trained_on["chosen_on"] == choose and model.trained_on["chosen_of"] == 4
    kept = read_epochs(tmp_path / "training.tsv")
    # Chosen on train, it is trained once more, on all videos.
    assert kept["loss"].equals(trials[best]["loss"]) == (choose == "val")
    assert not list(tmp_path.glob("*.states"))


def test_trials_over_the_same_pass_are_what_each_is_alone(lab, made, tmp_path):
    """Without dropout, whose random numbers they share."""
    train(lab, made, tmp_path, choose="val", dropout=0.0, **GRID)
    together = read_trials(tmp_path / "trials.tsv")["lr 0.003, decay 0.1"]
    train(lab, made, tmp_path, dropout=0.0, **GRID | {"lr": 3e-3, "weight_decay": 0.1})
    alone = read_epochs(tmp_path / "training.tsv")
    np.testing.assert_allclose(together["loss"], alone["loss"], rtol=1e-5)


# One stop is while four are tried, the other is in the last training.
@pytest.mark.parametrize("stop", [2, 7])
def test_a_stopped_training_goes_on_to_the_same_bytes(lab, made, tmp_path, monkeypatch, stop):
    settings = GRID | {"lr": 3e-3, "epochs": 5}
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    straight.mkdir(), stopped.mkdir()
    wanted = train(lab, made, straight, **settings).read_bytes()
    monkeypatch.setattr(probe, "SAVE_SECONDS", -1.0)
    writes, write = [], probe.write_tensors

    def write_and_stop(*given):
        write(*given)
        writes.append(given)
        if len(writes) == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(probe, "write_tensors", write_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(lab, made, stopped, **settings)
    assert not (stopped / "model.pth").exists()
    assert train(lab, made, stopped, **settings).read_bytes() == wanted
    # Both trainings save after each of five epochs, and none is done twice.
    assert len(writes) == 10
    assert train(lab, made, stopped, **settings, seed=1).read_bytes() != wanted


def test_a_training_that_was_stopped_with_another_val_begins_anew(lab, made, tmp_path, monkeypatch):
    """It went on with the figures of the val list that it was stopped with."""
    monkeypatch.setattr(probe, "remove_folder", lambda folder: None)
    train(lab, made, tmp_path, val="train", epochs=10)
    train(lab, made, tmp_path, epochs=10)
    figures = read_epochs(tmp_path / "training.tsv")
    (tmp_path / "anew").mkdir()
    train(lab, made, tmp_path / "anew", epochs=10)
    anew = read_epochs(tmp_path / "anew/training.tsv")
    assert figures["action_top1"].equals(anew["action_top1"])


def test_segments_are_found_in_any_list_by_their_id(lab, made):
    table = read_clean_list(f"{lab.results}/clean/train.txt")
    whole = read_tokens(table, made, None)
    some = read_tokens(table.iloc[[5, 2]], made, whole.source)
    assert torch.equal(some.rows[0], whole.rows[5]) and torch.equal(some.rows[1], whole.rows[2])
    assert whole.rows[0].shape == (4, 144) and whole.rows[0].dtype == torch.float16


def test_only_videos_that_changed_are_read_again(lab, tmp_path, caplog):
    def counted(**more):
        caplog.clear()
        tokens(lab.folder, tmp_path, splits=("train",), **more)
        return re.findall(r"going on: (\d+) of (\d+)|tokens of (\d+) videos", caplog.text)

    ((_, _, videos),) = counted()
    assert counted()[1][:2] == (videos, videos)
    shard = next(tmp_path.glob("train.tokens.shards/*/*"))
    shard.write_bytes(b"cut")
    assert counted()[1][:2] == (str(int(videos) - 1), videos)
    # No tokens of that grid are kept.
    assert len(counted(grid=(2, 4))) == 1


def changed(path, **source):
    content = json.loads(path.read_text())
    content["source"] |= source
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda own: changed(own[1], grid=[9, 9]), r"val.tokens.json: tokens of .*grid .9, 9.*exp"),
        (lambda own: own[0].write_text("{}"), "train.tokens.json: no index of the rule tokens"),
        (lambda own: own[0].unlink(), "train.tokens.json: "),
        (
            lambda own: [path.write_bytes(b"PK") for path in own[0].parent.glob("train*/*/*")],
            "gone or broken; make it again: `snakemake --force .*train.tokens.json`",
        ),
        (lambda own: shutil.copy(own[1], own[0]), "train.tokens.shards.*gone or broken"),
    ],
)
def test_tokens_that_do_not_belong_together_are_refused(lab, own, tmp_path, spoil, words):
    spoil(own)
    with pytest.raises(EpicError, match=words):
        train(lab, own, tmp_path)
    assert not (tmp_path / "model.pth").exists()


def test_a_probe_reads_tokens_of_its_own_source_only(lab, model, own, tmp_path):
    probe = train(lab, own, tmp_path, epochs=1)
    for path in own:
        changed(path, model="another")
    with pytest.raises(EpicError, match="model another.*; expected those of .*, which the probe"):
        probed(lab, own, probe, "val")
    with pytest.raises(EpicError, match="model.pth: a model, but no probe"):
        probed(lab, [], model, "val")


@pytest.mark.slow
@pytest.mark.parametrize("kind, grid", [("clip", (8, 2)), ("dinov2", (8, 2)), ("vjepa2", (2, 2))])
def test_a_probe_over_hugging_face_makes_timelines_and_knows_its_encoder(
    kind, grid, lab, tmp_path, monkeypatch, caplog
):
    folder = make_encoder(tmp_path / "encoder", kind)
    monkeypatch.chdir(tmp_path)
    indexes = tokens(lab.folder, tmp_path, "hf", folder, grid)
    model = train(lab, indexes, tmp_path, epochs=1, lr=[1e-3, 1e-4], choose="val", folder=folder)
    probed(lab, indexes, model, "val")
    listed, metrics = f"{lab.results}/segments/val.txt", tmp_path / "metrics.json"
    figures = evaluate(tmp_path / "val.pt", listed, metrics, lists={}, reduce="joint")
    chosen = warning(figures, f"{lab.results}/clean/dropped.tsv")
    assert chosen == "These segments chose among 2 probes."
    film, settings = lab.videos["P01_02"].path(lab.root), TimelineSettings(stride=4.0)

    def timeline(**more):
        predict = PredictSettings(workers=0, device="cpu", **more)
        out = tmp_path / "timeline"
        make_timelines([film], ModelInUse(model), out, settings=settings, predict=predict)

    # The encoder is where it was in training.
    timeline()
    assert (tmp_path / "timeline/P01_02.vtt").read_text().startswith("WEBVTT")
    shutil.rmtree(tmp_path / "timeline")
    other = make_encoder(tmp_path / "other", kind, seed=1)
    with pytest.raises(EpicError, match="other: its fingerprint is .* learned from .*: other wei"):
        timeline(encoder=str(other))
    caplog.clear()
    tokens(lab.folder, tmp_path, "hf", other, grid, ("val",))
    assert f"by hf {HuggingFaceFolder(other).fingerprint[:12]}" in caplog.text
    assert "going on" not in caplog.text


def test_without_transformers_the_extra_is_named(tmp_path, monkeypatch):
    folder = make_encoder(tmp_path / "encoder", "videomae")
    # An import fails now, as if the package were not installed.
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EpicError, match=r"not installed; install the extra: .*epic100\[hf\]"):
        HuggingFaceFolder(folder).check()


HF, OWN = ({"features": {"encoder": name}} for name in ("hf", "my_lab:MeanColour"))
GONE, EMPTY = ({"features": {"encoder": "hf", "path": path}} for path in ("gone", "empty"))


@pytest.mark.parametrize(
    "target, changes, words",
    [
        ("submission.pt", {"run": None}, "needs a run of its own"),
        (
            "submission.pt",
            {},
            "results/model.pth: no such model; the probe learns from its features",
        ),
        ("submission.pt", HF, "`features: encoder: hf` goes with `path:`, a folder"),
        ("submission.pt", GONE, "gone: no folder with files; expected that of a Hugging Face"),
        ("submission.pt", EMPTY, "empty/config.json: cannot be read"),
        ("background.json", EMPTY, "empty/config.json: cannot be read"),
        ("timeline/P02_102.tsv", EMPTY, "empty/config.json: cannot be read"),
        ("background.json", OWN, "a probe with `features: encoder: hf` alone, not my_lab:Mean"),
    ],
)
def test_an_encoder_that_cannot_be_used_stops_the_run_before_the_first_job(
    clean_archive, tmp_path, target, changes, words
):
    folder = clean_archive(tmp_path / "archive")
    configure(folder, **{"run": "probe", "probe": {}} | changes)
    model = folder / "results/runs/probe/model.pth"
    # These targets need a probe that is there already.
    if target != "submission.pt":
        model.parent.mkdir(parents=True)
        model.write_bytes(b"a probe")
    (folder / "empty").mkdir()
    (folder / "empty/README.md").touch()
    done = run(folder, f"results/runs/probe/{target}", well=False)
    assert words in said(done) and not (folder / "results/runs/probe/logs").exists()
