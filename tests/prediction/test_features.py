"""Features of real videos: their values and times, when they are made again, what is rejected."""

import re
import shutil

import numpy as np
import pytest
import torch
import yaml
from mmaction.registry import MODELS

from epic100.base.errors import EpicError
from epic100.minikitchen.damage import zero_block
from epic100.model.forward import pooled_features
from epic100.model.model_file import load_model
from epic100.prediction.encoder import encode_clips
from epic100.prediction.features import read_features
from epic100.scan.participant import scan_participant
from epic100.video.sheet import Video
from support.checkout import ROOT, rows_of
from support.models import MODEL, predicted
from support.small_features import make
from support.tricky_videos import encode

pytestmark = pytest.mark.slow


def test_the_head_turns_features_into_scores(lab, model, tmp_path):
    folder = make(lab.folder, tmp_path / "P02.tsv", "model", "P02", model, stride=4.0)
    features = read_features(folder / "P02_101.npz")
    # A video of 12 s has three steps of 4 s, and the pooled maps of X3D have 432 channels.
    assert features.feats.shape == (3, 432) and features.valid.all()
    segments = tmp_path / "val.txt"
    lines = [f"P02/P02_101.MP4 {start} {stop} -1 -1 clip{start}" for start, stop in features.frames]
    segments.write_text("\n".join(lines) + "\n")
    expected = predicted(lab, model, segments, tmp_path / "val.pt", clips=1, device="cpu")
    trained = load_model(model)
    recognizer = MODELS.build(trained.config["model"]).eval()
    recognizer.load_state_dict(trained.state_dict)
    head = recognizer.cls_head
    with torch.inference_mode():
        scores = head.fc2(head.fc1(torch.from_numpy(features.feats)).relu())
    log_probs = scores.log_softmax(dim=1)
    torch.testing.assert_close(log_probs, expected.log_probs, atol=1e-5, rtol=1e-5)


def test_actionformer_reads_the_right_times(lab, tmp_path):
    text = (ROOT / "docs/features.md").read_text()
    options = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL).group(1))["dataset"]
    make(lab.folder, tmp_path / "P01.tsv")
    with np.load(tmp_path / f"P01_01{options['file_ext']}") as data:
        feats, times = data["feats"], data["times"]
    # A video of 12.012 s has 25 steps of 0.5 s; three frames have 4 x 4 places of three colours.
    assert feats.dtype == np.float32 and feats.shape == (25, 3 * 4 * 4 * 3)
    # ActionFormer computes the time of a feature in this way.
    centres = np.arange(25) * options["feat_stride"] + 0.5 * options["num_frames"]
    np.testing.assert_allclose(centres / options["default_fps"], times, atol=1e-9)
    features = read_features(tmp_path / "P01_01.npz")
    # The first and the last clip are moved into the video, so their middles differ.
    middles = features.frames.mean(axis=1)[1:-1] / features.fps
    np.testing.assert_allclose(middles, times[1:-1], atol=1 / features.fps)


def test_only_changed_features_are_made_again(lab, tmp_path, caplog):
    def made_and_kept(**settings):
        caplog.clear()
        make(lab.folder, tmp_path / "P01.tsv", **settings)
        return re.search(r"features of (\d) videos to make; (\d) are there", caplog.text).groups()

    assert made_and_kept() == ("2", "0")
    assert made_and_kept() == ("0", "2")
    features = tmp_path / "P01_02.npz"
    content = features.read_bytes()
    features.write_bytes(content[:-900])
    with pytest.raises(EpicError, match=r"P01_02.npz: not complete features .*snakemake --force"):
        read_features(features)
    assert made_and_kept() == ("1", "1")
    assert features.read_bytes() == content
    assert made_and_kept(stride=2.0) == ("2", "0")


def test_damaged_steps_and_missing_features_are_told(lab, tmp_path):
    ids = ("P04_01", "P04_02", "P04_03")
    videos = [Video(name, "P04", "train", 30000 / 1001, 4.0) for name in ids]
    damaged, of_one_frame, _missing = videos
    root, results = tmp_path / "videos", tmp_path / "results"
    damaged.path(root).parent.mkdir(parents=True)
    shutil.copyfile(lab.videos["P03_07"].path(lab.root), damaged.path(root))
    zero_block(damaged.path(root), 0.5, 8192)
    encode(of_one_frame.path(root), 1)
    scan = results / "scan/P04.tsv"
    scan_participant(videos, root, scan, scan.with_suffix(".index.npz"))
    table = results / "features/P04.tsv"
    table.parent.mkdir()
    (table.parent / "P04_03.npz").write_bytes(b"features of a video that was removed")
    make(tmp_path, table, participant="P04")
    features = read_features(table.parent / "P04_01.npz")
    assert 0 < features.valid.sum() < len(features.valid)
    assert (features.feats.any(axis=1) == features.valid).all()
    rows = {row["video_id"]: row for row in rows_of(table)}
    assert rows["P04_01"]["valid"] == str(features.valid.sum()) and not rows["P04_01"]["reason"]
    assert "1 frame" in rows["P04_02"]["reason"]
    assert rows["P04_03"]["reason"].startswith("missing")
    assert [path.name for path in table.parent.glob("*.npz")] == ["P04_01.npz"]


@pytest.mark.parametrize(
    "encoder, words",
    [
        pytest.param(
            "no_such_module:Encoder", "cannot be imported .ModuleNotFoundError", id="no module"
        ),
        pytest.param(
            "support.small_features:Nothing", "cannot be imported .AttributeError", id="no class"
        ),
        pytest.param(
            "support.small_features:Nameless", "has no frame_interval, fps", id="no attributes"
        ),
        pytest.param(
            "support.small_features:OfOneRow",
            r"gives \[144\] for 8 clips; expected features \[8, C\]",
            id="one vector for all clips",
        ),
    ],
)
def test_an_encoder_that_cannot_be_used_is_rejected(lab, tmp_path, encoder, words):
    with pytest.raises(EpicError, match=words):
        make(lab.folder, tmp_path / "P02.tsv", encoder, "P02", stride=1.0)


def test_an_encoder_with_missing_vectors_is_rejected():
    clips = [torch.zeros(1, 3, 2, 4, 4, dtype=torch.uint8)] * 8
    with pytest.raises(EpicError, match=r"mine: gives .* for 8 clips; expected features \[8, C\]"):
        encode_clips(lambda batch: torch.zeros(7, 5), clips, batch_size=8, name="mine")


@pytest.mark.parametrize("shape", [(2, 5), (2, 4, 5), (2, 2, 3, 3, 5)], ids=str)
def test_a_clip_s_features_average_its_tokens(shape):
    output = torch.randn(shape)
    clips = [torch.zeros(1, 3, 2, 4, 4, dtype=torch.uint8)] * 2
    features = encode_clips(lambda batch: output, clips, batch_size=8, name="mine")
    tokens = output.reshape(2, -1, 5)
    torch.testing.assert_close(features, tokens.sum(dim=1) / tokens.shape[1])


def test_features_survive_the_head_running_out_of_memory(monkeypatch):
    model = MODELS.build(MODEL).eval()
    torch.manual_seed(0)
    clips = list(torch.randint(0, 255, (4, 1, 3, 4, 32, 32), dtype=torch.uint8))
    expected = pooled_features(model, clips, max_batch_size=4, frames=None, where="m.pth")
    assert len(expected.unique(dim=0)) == 4
    forward = model.cls_head.fc2.forward

    def forward_of_two(inputs):
        """Compute at most two clips, so that the batch of four is halved."""
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("so many bytes")
        return forward(inputs)

    monkeypatch.setattr(model.cls_head.fc2, "forward", forward_of_two)
    found = pooled_features(model, clips, max_batch_size=4, frames=None, where="m.pth")
    torch.testing.assert_close(found, expected)


def test_a_head_without_a_linear_layer_is_rejected():
    model = MODELS.build(MODEL).eval()
    model.cls_head.fc1 = model.cls_head.fc2 = torch.nn.Identity()
    clip = torch.zeros(1, 3, 4, 32, 32, dtype=torch.uint8)
    with pytest.raises(EpicError, match="m.pth: X3DHead gives no features: no linear layer"):
        pooled_features(model, [clip], max_batch_size=1, frames=None, where="m.pth")
