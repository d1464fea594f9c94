"""Features of real videos: what they are and refuse."""

import re
import shutil

import numpy as np
import pytest
import torch
import yaml
from mmaction.registry import MODELS

from epic100.base.errors import EpicError
from epic100.features.participant import read_features
from epic100.minikitchen.damage import zero_block
from epic100.model.forward import pooled_features
from epic100.model.model_file import load_model
from epic100.scan import scan_participant
from epic100.video.sheet import Video
from support.checkout import ROOT
from support.models import MODEL, predicted
from support.small_features import make
from support.tables import rows_of
from support.tricky_videos import encode

pytestmark = pytest.mark.slow


def test_the_models_head_makes_its_own_scores_of_its_features(lab, model, tmp_path):
    found = make(lab.folder, tmp_path / "P02.tsv", "model", "P02", model, stride=4.0)
    features = read_features(found / "P02_101.npz")
    assert features.feats.shape == (3, 432) and features.valid.all()
    clips = tmp_path / "val.txt"
    clips.write_text(
        "".join(
            f"P02/P02_101.MP4 {start} {stop} -1 -1 clip{i}\n"
            for i, (start, stop) in enumerate(features.frames)
        )
    )
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
    assert [row["steps"] for row in rows_of(table)] == ["7", "7"]


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
    sound, short, missing = rows_of(out / "P04.tsv")
    assert sound["valid"] == str(features.valid.sum()) and not sound["reason"]
    assert "1 picture" in short["reason"] and missing["reason"].startswith("missing")
    assert [path.name for path in out.glob("*.npz")] == ["P04_01.npz"]


@pytest.mark.parametrize(
    "encoder, words",
    [
        ("no_such_module:Encoder", "cannot be imported .ModuleNotFoundError"),
        ("support.encoders:Nothing", "cannot be imported .AttributeError"),
        ("support.encoders:Nameless", "has no frame_interval, fps"),
        ("support.encoders:OfOneRow", r"gives \[144\] for 8 clips; expected features \[8, C\]"),
    ],
)
def test_an_encoder_that_is_none_is_refused(lab, tmp_path, encoder, words):
    with pytest.raises(EpicError, match=words):
        make(lab.folder, tmp_path / "P02.tsv", encoder, "P02", stride=1.0)


def test_features_are_the_same_after_a_head_that_ran_out_of_memory(monkeypatch):
    model = MODELS.build(MODEL).eval()
    generator = torch.Generator().manual_seed(0)
    clips = [
        torch.randint(0, 255, (1, 3, 4, 32, 32), dtype=torch.uint8, generator=generator)
        for _ in range(4)
    ]
    expected = pooled_features(model, clips, 4, None, "m.pth")
    last, full = model.cls_head.fc2, model.cls_head.fc2.forward

    def small(inputs):
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("so many bytes")
        return full(inputs)

    monkeypatch.setattr(last, "forward", small)
    again = pooled_features(model, clips, 4, None, "m.pth")
    torch.testing.assert_close(again, expected)
    assert len(expected.unique(dim=0)) == 4


def test_a_head_without_pooled_features_is_refused():
    model = MODELS.build(MODEL).eval()
    model.cls_head.fc1 = torch.nn.Identity()
    model.cls_head.fc2 = torch.nn.Identity()
    clip = torch.zeros(1, 3, 4, 32, 32, dtype=torch.uint8)
    with pytest.raises(EpicError, match="m.pth: X3DHead gives no features: no linear layer"):
        pooled_features(model, [clip], 1, None, "m.pth")
