"""A probe on stored features: what it sees, learns and refuses."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.features.file import Features, read_features, write_features
from epic100.features.probe_train import predict_probe, train_probe
from epic100.features.segment_rows import MOST_ROWS, chosen_rows, rows_of_segments
from epic100.features.table import FeatureRow, write_feature_table
from epic100.model.model_file import load_model
from epic100.scoring.predictions import read_predictions
from epic100.segments.clean_list import read_clean_list
from epic100.settings import ProbeSettings
from epic100.training.epoch_table import read_epochs
from support.checkout import run_snakemake, said
from support.random_model import save_random_model
from support.small_features import COLOURS, make

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(lab, tmp_path_factory):
    """The folder of the features of all participants of the lab."""
    folder = tmp_path_factory.mktemp("features")
    for name in ("P01", "P02", "P03"):
        make(lab.folder, folder / f"{name}.tsv", participant=name, batch=32, stride=0.25)
    return folder


@pytest.fixture
def own(made, tmp_path):
    """A copy of the features that a test may spoil."""
    return shutil.copytree(made, tmp_path / "features")


def train(lab, made, out, **settings):
    torch.set_num_threads(1)
    train_probe(
        ProbeSettings(**{"epochs": 20, "batch_size": 16, "lr": 3e-3} | settings),
        out / "model.pth", out / "training.tsv", split="train",
        segments=f"{lab.results}/clean/train.txt", val=f"{lab.results}/clean/val.txt",
        pairs=f"{lab.results}/clean/pairs.tsv", tables=sorted(made.glob("*.tsv")),
        classes=(97, 300), names={},
    )  # fmt: skip
    return out / "model.pth"


def predicted(lab, made, model, split="train"):
    out, clean = model.parent / f"{split}.pt", f"{lab.results}/clean/{split}.txt"
    predict_probe(model, clean, out, split=split, tables=sorted(made.glob("*.tsv")))
    return read_predictions(out, split, model=model, clean=clean)


@pytest.mark.parametrize("heads", ["pair", "verb_noun", "both"])
def test_it_learns_what_it_is_shown(lab, made, tmp_path, heads):
    found = predicted(lab, made, train(lab, made, tmp_path, heads=heads))
    table = read_clean_list(f"{lab.results}/clean/train.txt")
    best = np.array(found.pairs)[found.log_probs.argmax(dim=1), :2]
    assert (best == table[["verb", "noun"]].to_numpy()).all(axis=1).mean() > 0.8
    assert torch.allclose(found.log_probs.exp().sum(dim=1), torch.ones(len(table)))
    assert (found.verb_log_probs is None) == (heads == "pair")
    assert found.trained_on["load_from"] == COLOURS  # for the supervision levels
    history = read_epochs(tmp_path / "training.tsv")
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert history["action_top1"].notna().tolist() == [epoch in (10, 20) for epoch in range(1, 21)]


def test_the_same_seed_gives_the_same_files_and_another_does_not(lab, made, tmp_path):
    bytes_of = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        bytes_of.append(train(lab, made, tmp_path / name, seed=seed, epochs=2).read_bytes())
    assert bytes_of[0] == bytes_of[1] != bytes_of[2]


def steps_of_ten(valid=(True,) * 9):
    """Features of nine steps of ten frames each; channel 0 counts them."""
    middle = np.arange(9) * 10 + 5
    feats = np.arange(9, dtype=np.float32)[:, None] * np.array(valid)[:, None]
    about = {"encoder": "e", "model": "", "load_from": None, "stride": 1.0, "window": None}
    return Features(feats.astype(np.float32), np.array(valid), middle / 10, middle,
                    np.stack([middle - 5, middle + 5], 1), 10.0, 9.0, about)  # fmt: skip


def test_a_segment_sees_the_steps_in_it_or_the_nearest_sound_one():
    every = steps_of_ten()
    assert chosen_rows(every, 20, 50).tolist() == [2, 3, 4]
    assert chosen_rows(every, 26, 34).tolist() == [2]  # no middle in it
    assert chosen_rows(every, 0, 1).tolist() == [0] and chosen_rows(every, 88, 90).tolist() == [8]
    spoilt = steps_of_ten([True, True, False, False, False, True, True, True, True])
    assert chosen_rows(spoilt, 10, 70).tolist() == [1, 5, 6]
    assert chosen_rows(spoilt, 40, 50).tolist() == [5]
    thinned = chosen_rows(replace(every, valid=np.ones(90, bool), middle=np.arange(90)), 0, 90)
    assert len(thinned) == MOST_ROWS and (thinned[0], thinned[-1]) == (0, 89)


def test_segments_of_a_video_without_a_sound_step_have_zeros(lab, own, caplog):
    write_feature_table([FeatureRow("P02_101", reason="every step touches damage")],
                        own / "P02.tsv")  # fmt: skip
    table = read_clean_list(f"{lab.results}/clean/train.txt")
    rows = rows_of_segments(table, sorted(own.glob("*.tsv")), None)
    without = (table["path"] == "P02/P02_101.MP4").to_numpy()
    for (start, stop), empty in zip(rows.spans, without, strict=True):
        assert stop > start and rows.feats[start:stop].any() != empty
    assert f"{without.sum()} segments are of videos without features (P02_101" in caplog.text


def make_of_another(path, **changes):
    """Let a file say that its features were made from something else."""
    features = read_features(path)
    write_features(replace(features, made_from={**features.made_from, **changes}), path)


@pytest.mark.parametrize("spoil, words", [
    (lambda own: make_of_another(own / "P03_07.npz", stride=0.5),
     r"P03_07.npz: features of .*stride 0.5.* but .*P0._.*npz has features of .*stride 0.25"),
    (lambda own: (own / "P03_07.npz").write_bytes(b"PK"), "P03_07.npz: not whole features"),
    (lambda own: (own / "P03_07.npz").unlink(), "P03_07.npz: no such features; the rule features"),
    (lambda own: (own / "P03.tsv").unlink(), "P03_07: no table of the rule features has this"),
    (lambda own: (own / "P03.tsv").write_text("video_id\n"), "P03.tsv: line 1: column steps"),
])  # fmt: skip
def test_features_that_do_not_belong_together_are_refused(lab, own, tmp_path, spoil, words):
    spoil(own)
    with pytest.raises(EpicError, match=words):
        train(lab, own, tmp_path)
    assert not (tmp_path / "model.pth").exists()


def test_a_probe_reads_features_of_its_own_source_only(lab, own, tmp_path):
    model = train(lab, own, tmp_path, epochs=1)
    for path in own.glob("*.npz"):
        make_of_another(path, model="another")
    with pytest.raises(EpicError, match="model another.* but the probe was trained on features of"):
        predicted(lab, own, model, "val")
    with pytest.raises(EpicError, match="random.pth: a model, but no probe"):
        predict_probe(save_random_model(lab, tmp_path / "random.pth"),
                      f"{lab.results}/clean/val.txt", tmp_path / "val.pt", split="val",
                      tables=[])  # fmt: skip
    assert load_model(model).trained_on["epochs"] == 1


@pytest.mark.parametrize("words, message", [
    (["--configfile", "config/demo.yaml", "--config", "probe={}"], "needs a run of its own"),
    (["--configfile", "config/demo.yaml", "config/probe.yaml"],
     "results/model.pth: no such model; the probe learns from its features: train it first"),
])  # fmt: skip
def test_a_probe_without_a_run_or_a_model_is_one_message(tmp_path, words, message):
    done = run_snakemake("results/runs/probe/submission.pt", "-n", "--directory", str(tmp_path),
                         *words, well=False)  # fmt: skip
    assert message in said(done)
