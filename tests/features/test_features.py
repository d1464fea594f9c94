"""Features of real videos, and a probe on them: what they are, learn and refuse."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from mmaction.registry import MODELS

from epic100.base.errors import EpicError
from epic100.features.file import (
    FeatureRow,
    Features,
    read_feature_table,
    read_features,
    write_feature_table,
    write_features,
)
from epic100.features.participant import confirm_features, source_of
from epic100.features.probe import predict_probe, train_probe
from epic100.features.segment_rows import MOST_ROWS, chosen_rows, rows_of_segments
from epic100.minikitchen.damage import zero_block
from epic100.model.model_file import load_model, save_model
from epic100.prediction.encoder import pooled_features
from epic100.scan import scan_participant
from epic100.scoring.predictions import read_predictions
from epic100.segments.segment_list import read_clean_list
from epic100.settings import ProbeSettings, TrainSettings
from epic100.training.epoch_table import read_epochs
from epic100.training.finished import save_start_model
from epic100.video.sheet import Video
from support.checkout import ROOT, run_snakemake, said
from support.random_model import predicted, save_random_model
from support.small_features import COLOURS, make
from support.small_model import MODEL
from support.small_runs import DEMO
from support.tricky_videos import encode

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(lab, tmp_path_factory):
    return save_random_model(lab, tmp_path_factory.mktemp("model") / "model.pth")


def test_the_models_head_makes_its_own_scores_of_its_features(lab, model, tmp_path):
    torch.set_num_threads(1)
    found = make(lab.folder, tmp_path / "P02.tsv", "model", "P02", model, stride=4.0)
    features = read_features(found / "P02_101.npz")
    assert features.feats.shape == (3, 432) and features.valid.all()
    clips = tmp_path / "val.txt"
    clips.write_text("".join(
        f"P02/P02_101.MP4 {start} {stop} -1 -1 clip{i}\n"
        for i, (start, stop) in enumerate(features.frames)
    ))  # fmt: skip
    wanted = predicted(lab, model, clips, tmp_path / "val.pt", clips=1, device="cpu").log_probs
    trained = load_model(model)
    whole = MODELS.build(trained.config["model"])
    whole.load_state_dict(trained.state_dict)
    head = whole.eval().cls_head
    with torch.inference_mode():
        scores = head.fc2(head.fc1(torch.from_numpy(features.feats)).relu())
    torch.testing.assert_close(scores.log_softmax(dim=1), wanted, atol=1e-5, rtol=1e-5)


def test_the_lines_for_actionformer_put_features_where_they_are(lab, tmp_path):
    text = (ROOT / "docs/features.md").read_text()
    lines = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL).group(1))["dataset"]
    make(lab.folder, tmp_path / "P01.tsv")
    with np.load(tmp_path / f"P01_01{lines['file_ext']}") as data:
        feats, times = data["feats"], data["times"]
    assert feats.dtype == np.float32 and feats.shape == (25, 3 * 3 * 16) == (len(times), 144)
    middle = 0.5 * lines["num_frames"]
    theirs = (np.arange(len(times)) * lines["feat_stride"] + middle) / lines["default_fps"]
    np.testing.assert_allclose(theirs, times, atol=1e-9)
    features = read_features(tmp_path / "P01_01.npz")
    clips = features.frames.mean(axis=1)[1:-1] / features.fps
    np.testing.assert_allclose(clips, times[1:-1], atol=1 / features.fps)


def test_only_what_changed_is_made_again(lab, tmp_path, caplog):
    table = tmp_path / "P01.tsv"

    def counted(**settings):
        caplog.clear()
        make(lab.folder, table, **settings)
        return re.search(r"features of (\d) videos to make; (\d) are there", caplog.text).groups()

    assert counted() == ("2", "0")
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(first) == {"P01.tsv", "P01_01.npz", "P01_02.npz"}
    assert counted() == ("0", "2")
    cut = tmp_path / "P01_02.npz"
    cut.write_bytes(first["P01_02.npz"][:-900])
    with pytest.raises(EpicError, match=r"P01_02.npz: not whole features .*snakemake --force"):
        read_features(cut)
    assert counted() == ("1", "1")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert counted(stride=2.0) == ("2", "0")
    assert [row.steps for row in read_feature_table(table)] == [7, 7]


def test_a_job_that_failed_goes_on_after_its_last_part(lab, tmp_path, caplog, monkeypatch):
    failing = "support.encoders:Failing"  # in the ninth batch: the first of the second part
    monkeypatch.setenv("EPIC100_TEST_FAILS", "yes")
    with pytest.raises(EpicError, match=r"P02_101_at_6.40_s: support.encoders:Failing gives NaN"):
        make(lab.folder, tmp_path / "P02.tsv", failing, "P02", stride=0.1)
    assert not list(tmp_path.glob("*.npz"))
    monkeypatch.delenv("EPIC100_TEST_FAILS")
    make(lab.folder, tmp_path / "P02.tsv", failing, "P02", stride=0.1)
    assert "going on: 1 of 2 parts are predicted already" in caplog.text
    straight = make(lab.folder, tmp_path / "straight/P02.tsv", participant="P02", stride=0.1)
    one, other = (read_features(path / "P02_101.npz") for path in (tmp_path, straight))
    assert np.array_equal(one.feats, other.feats) and len(one.feats) == 120
    assert not list(tmp_path.glob("P02.*s"))  # neither shards nor clips


def test_damage_is_marked_and_videos_without_features_have_a_reason(lab, tmp_path):
    ids = ("P04_01", "P04_02", "P04_03")
    videos = [Video(name, "P04", "train", 30000 / 1001, 4.0) for name in ids]
    (tmp_path / "videos/P04").mkdir(parents=True)
    shutil.copyfile(lab.videos["P03_07"].path(lab.root), videos[0].path(tmp_path / "videos"))
    zero_block(videos[0].path(tmp_path / "videos"), 0.5, 8192)
    encode(videos[1].path(tmp_path / "videos"), 1)
    scans = tmp_path / "results/scan"
    scan_participant(videos, tmp_path / "videos", scans / "P04.tsv", scans / "P04.index.npz")
    out = tmp_path / "results/features"
    out.mkdir()
    (out / "P04_03.npz").write_bytes(b"of a video that is gone")
    make(tmp_path, out / "P04.tsv", participant="P04")
    features = read_features(out / "P04_01.npz")
    touched = ~features.valid
    assert 0 < touched.sum() < len(touched) and not features.feats[touched].any()
    assert features.feats[features.valid].any(axis=1).all()
    rows = {row.video_id: row for row in read_feature_table(out / "P04.tsv")}
    assert rows["P04_01"].valid == features.valid.sum() and not rows["P04_01"].reason
    assert "1 picture" in rows["P04_02"].reason and rows["P04_03"].reason.startswith("missing")
    assert [path.name for path in out.glob("*.npz")] == ["P04_01.npz"]
    with pytest.raises(EpicError, match="P04_02 has no features: .*1 picture"):
        confirm_features(out / "P04_02.npz", out / "P04.tsv")


def test_start_weights_give_features_without_a_training(lab, model, tmp_path):
    weights = {
        f"backbone.{name.removeprefix('backbone.')}": value
        for name, value in load_model(model).state_dict.items()
        if "backbone" in name
    }
    torch.save({"state_dict": weights}, tmp_path / "weights.pth")
    settings = TrainSettings(config=DEMO, load_from=str(tmp_path / "weights.pth"))
    about = {"results": lab.results, "video_root": lab.root, "classes": (97, 300)}
    save_start_model(settings, tmp_path / "start_model.pth", **about)
    ours = make(lab.folder, tmp_path / "a/P02.tsv", "start", "P02", tmp_path / "start_model.pth",
                stride=6.0)  # fmt: skip
    same = make(lab.folder, tmp_path / "b/P02.tsv", "model", "P02", model, stride=6.0)
    one, other = (read_features(path / "P02_101.npz") for path in (ours, same))
    np.testing.assert_allclose(one.feats, other.feats, atol=1e-5)
    assert one.source != other.source  # of another model file
    with pytest.raises(EpicError, match="encoder:` is start, but `train:` starts from random"):
        save_start_model(
            settings.model_copy(update={"load_from": None}), tmp_path / "none.pth", **about
        )


@pytest.mark.parametrize("encoder, words", [
    ("no_such_module:Encoder", "cannot be imported .ModuleNotFoundError"),
    ("support.encoders:Nothing", "cannot be imported .AttributeError"),
    ("support.encoders:Nameless", "has no frame_interval, fps"),
    ("support.encoders:OfOneRow", r"gives \[144\] for 8 clips; expected features \[8, C\]"),
])  # fmt: skip
def test_an_encoder_that_is_none_is_refused(lab, tmp_path, encoder, words):
    with pytest.raises(EpicError, match=words):
        make(lab.folder, tmp_path / "P02.tsv", encoder, "P02", stride=1.0)


def test_a_head_without_pooled_features_is_refused():
    model = MODELS.build(MODEL).eval()
    model.cls_head.fc1 = torch.nn.Identity()
    model.cls_head.fc2 = torch.nn.Identity()
    clip = torch.zeros(1, 3, 4, 32, 32, dtype=torch.uint8)
    with pytest.raises(EpicError, match="m.pth: X3DHead gives no features: no linear layer"):
        pooled_features(model, [clip], 1, None, "m.pth")


def test_a_model_that_is_none_is_refused(lab, model, tmp_path):
    bare = tmp_path / "bare.pth"
    save_model(replace(load_model(model), config={}), bare)
    with pytest.raises(EpicError, match="test pipeline is no list of steps"):
        source_of("model", bare)


def test_features_of_a_video_that_is_not_in_the_sheet_are_refused(tmp_path):
    done = run_snakemake("results/features/P99_01.npz", "-n", "--directory", str(tmp_path),
                         "--configfile", "config/demo.yaml", well=False)  # fmt: skip
    assert re.search("results/features/P99_01.npz: .*demo_videos.tsv has no such video", said(done))


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


def probed(lab, made, model, split="train"):
    out, clean = model.parent / f"{split}.pt", f"{lab.results}/clean/{split}.txt"
    predict_probe(model, clean, out, split=split, tables=sorted(made.glob("*.tsv")))
    return read_predictions(out, split, model=model, clean=clean)


@pytest.mark.parametrize("heads", ["pair", "verb_noun", "both"])
def test_it_learns_what_it_is_shown(lab, made, tmp_path, heads):
    found = probed(lab, made, train(lab, made, tmp_path, heads=heads))
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
    (lambda own: np.savez(own / "P03_07.npz", **{**np.load(own / "P03_07.npz"),
                                                 "feats": np.array([None])}),  # a pickle
     "P03_07.npz: not whole features"),
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
        probed(lab, own, model, "val")
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
