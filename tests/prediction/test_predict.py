"""A whole prediction: equal rows for any number of processes, and after any interruption."""

import os
import shutil
from dataclasses import replace

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.data.segment_list import read_segments, write_segments
from epic100.model.model_file import TrainedModel, load_model, save_model
from epic100.prediction.encoder import Source
from epic100.prediction.predict import predictions_from_rows
from epic100.prediction.shards import PredictionJob, WorkItem
from epic100.settings.prediction import PredictSettings
from support.models import predicted, save_random_model
from support.this_process import kill_after_a_shard

pytestmark = pytest.mark.slow

SEGMENTS_OF_VIDEO = 3


@pytest.fixture(scope="module")
def listed(lab, tmp_path_factory):
    """A list of three segments of each of three videos, which take turns."""
    table = read_segments(f"{lab.results}/clean/train.txt")
    turn = table.groupby("path").cumcount()
    mixed = table.loc[turn[turn < SEGMENTS_OF_VIDEO].sort_values(kind="stable").index]
    path = tmp_path_factory.mktemp("list") / "val.txt"
    write_segments(mixed, path)
    return path


def run(*arguments, **settings):
    return predicted(*arguments, **{"batch_size": 2, "clips": 1} | settings)


@pytest.fixture(scope="module")
def expected(lab, model, listed, tmp_path_factory):
    """The prediction of an uninterrupted run in one process."""
    found = run(lab, model, listed, tmp_path_factory.mktemp("expected") / "val.pt")
    assert found.narration_ids == read_segments(listed)["narration_id"].tolist()
    assert torch.allclose(found.log_probs.exp().sum(1), torch.ones(3 * SEGMENTS_OF_VIDEO))
    # The segments can be told apart by their rows.
    assert len(found.log_probs.unique(dim=0)) == 3 * SEGMENTS_OF_VIDEO
    return found


@pytest.fixture
def own(lab, tmp_path):
    """A copy of the lab that a test may change."""
    return replace(lab, folder=shutil.copytree(lab.folder, tmp_path / "lab"))


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"workers": 3}, id="three loader workers"),
        pytest.param(
            {"device": "cpu", "gpus": 2, "workers": 1},
            marks=pytest.mark.thorough,
            id="two processes",
        ),
        pytest.param({"batch_size": 1}, id="segments one by one"),
        pytest.param({"batch_size": 16}, id="all segments of a video at once"),
    ],
)
def test_rows_are_the_same_however_they_are_computed(
    lab, model, listed, expected, tmp_path, settings
):
    found = run(lab, model, listed, tmp_path / "val.pt", **settings)
    assert found.narration_ids == expected.narration_ids
    torch.testing.assert_close(found.log_probs, expected.log_probs, atol=1e-6, rtol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["val.pt", "val.shards"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_prediction_never_falls_back_from_a_gpu(lab, model, listed, tmp_path, monkeypatch):
    # A job with a GPU looks like this if the driver is too old.
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    with pytest.raises(EpicError, match="SLURM_JOB_GPUS is 0, but torch"):
        run(lab, model, listed, tmp_path / "val.pt")


def test_a_killed_prediction_resumes_at_missing_shards(
    lab, model, listed, expected, tmp_path, caplog
):
    out = tmp_path / "val.pt"
    kill_after_a_shard(run, lab, model, listed, out)
    # Hidden files are shards that were not finished.
    assert len(list(tmp_path.glob("val.shards/*/[!.]*.pt"))) == 1 and not out.exists()
    resumed = run(lab, model, listed, out)
    assert "going on: 1 of 3 parts are predicted already" in caplog.text
    assert torch.equal(resumed.log_probs, expected.log_probs)


def test_shards_fit_one_model_and_views_alone(lab, model, listed, tmp_path, caplog):
    few, out = tmp_path / "few.txt", tmp_path / "val.pt"
    # One segment of each of the three videos.
    write_segments(read_segments(listed).head(3), few)
    run(lab, model, few, out)
    first = out.read_bytes()
    run(lab, save_random_model(lab, tmp_path / "other.pth", seed=1), few, out)
    assert out.read_bytes() != first
    run(lab, model, few, out, clips=2)
    assert out.read_bytes() != first
    assert "are predicted already" not in caplog.text
    run(lab, model, few, out)
    assert "going on: 3 of 3 parts are predicted already" in caplog.text
    assert out.read_bytes() == first


def test_a_cut_or_outdated_shard_is_made_again(own, model, listed, expected, tmp_path, caplog):
    out = tmp_path / "val.pt"
    # A folder in the place of the output makes the run fail at its end, so its shards stay.
    (out / "folder").mkdir(parents=True)
    with pytest.raises(EpicError, match="not written: Is a directory"):
        run(own, model, listed, out)
    shutil.rmtree(out)
    # Each of the three shards is invalid now: P01_01's is cut, the video P03_07 has another
    # modification time, and a segment of P02_101 is shorter.
    shard = next(tmp_path.glob("val.shards/*/P01_*.pt"))
    shard.write_bytes(shard.read_bytes()[:-9])
    os.utime(own.videos["P03_07"].path(own.root), ns=(1, 1))
    table = read_segments(listed)
    table.loc[table["path"].str.startswith("P02").idxmax(), "stop"] -= 1
    changed = tmp_path / "changed.txt"
    write_segments(table, changed)
    found = run(own, model, changed, out)
    assert f"{shard}: not a shard (cut short" in caplog.text and "going on" not in caplog.text
    assert torch.equal(found.log_probs[0], expected.log_probs[0])


def test_three_predictions_shards_are_kept(tmp_path):
    item = WorkItem("P01_P01_01.MP4.0000000", "fingerprint", [0])
    for seconds, name in enumerate(["first", "second", "third", "first", "last"]):
        source = Source("mine:Encoder", "", name, [], None)
        out = f"{tmp_path}/val.pt"
        job = PredictionJob(source, "val.txt", out, ".", ".", PredictSettings(), [item])
        job.keep_newest_shards()
        job.write_shard(item, torch.full((1, 2), float(seconds)))
        os.utime(job.shards, (seconds, seconds))
    kept = [torch.load(path)["rows"][0, 0] for path in tmp_path.glob("val.shards/*/*.pt")]
    assert sorted(map(int, kept)) == [2, 3, 4]


def test_views_change_rows_and_batch_size_does_not(lab, model, listed, expected, tmp_path):
    found = run(lab, model, listed, tmp_path / "val.pt", crops=3)
    assert torch.allclose(found.log_probs.exp().sum(1), torch.ones(3 * SEGMENTS_OF_VIDEO))
    assert not torch.allclose(found.log_probs, expected.log_probs)
    again = run(lab, model, listed, tmp_path / "again.pt", crops=3, batch_size=1)
    torch.testing.assert_close(again.log_probs, found.log_probs, atol=1e-4, rtol=1e-4)


def test_a_pair_is_verb_times_noun_without_outputs():
    pairs = [(2, 0, 5), (0, 1, 1)]
    trained = TrainedModel({}, pairs, 3, 2, {}, {}, heads="verb_noun")
    verbs, nouns = torch.tensor([[0.5, 0.2, 0.3]]), torch.tensor([[0.6, 0.4]])
    rows = torch.cat([verbs, nouns], dim=1).log()
    made = predictions_from_rows("val", ["P01_11_0"], rows, trained, "digest")
    products = torch.tensor([[0.3 * 0.6, 0.5 * 0.4]])
    assert torch.allclose(made.log_probs.exp(), products / products.sum())


def test_a_split_without_segments_gives_no_rows(lab, model, tmp_path):
    segments, out = tmp_path / "val.txt", tmp_path / "val.pt"
    segments.touch()
    with pytest.raises(EpicError, match=r"val\.txt: no segment in it, and .*dropped\.tsv"):
        run(lab, model, segments, out)
    (tmp_path / "dropped.tsv").write_text("narration_id\tsplit\treason\nP01_01_0\tval\tno file\n")
    found = run(lab, model, segments, out)
    assert found.log_probs.shape == (0, len(found.pairs)) and found.narration_ids == []


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"workers": 1}, id="a loader worker"),
        pytest.param({"device": "cpu", "gpus": 2}, marks=pytest.mark.thorough, id="two processes"),
    ],
)
def test_a_missing_video_is_named_and_shards_stay(own, model, listed, tmp_path, settings):
    own.videos["P03_07"].path(own.root).unlink()
    with pytest.raises(EpicError, match=r"P03_07\.MP4") as caught:
        run(own, model, listed, tmp_path / "out/val.pt", **settings)
    assert "\n" not in str(caught.value) and "Error:" not in str(caught.value)
    assert not (tmp_path / "out/val.pt").exists()
    # With two processes, the first that fails ends the other, which may have saved nothing.
    if "gpus" not in settings:
        assert list(tmp_path.glob("out/val.shards/*/*.pt"))


def with_nan(trained):
    """Set a value of the last layer's bias to NaN."""
    weights = {name: value.clone() for name, value in trained.state_dict.items()}
    weights["cls_head.fc2.bias"][3] = torch.nan
    return replace(trained, state_dict=weights)


def with_one_pair(trained):
    """Keep one pair of the pair table, whose pairs the model scores."""
    return replace(trained, pairs=trained.pairs[:1])


@pytest.mark.parametrize(
    "change, words",
    [
        (with_nan, r"^P0\S+_\d+: .*bad\.pth gives NaN or infinity; check the"),
        (with_one_pair, r"bad\.pth: its model gives 8 scores .* are of 1; the two"),
    ],
)
def test_bad_weights_or_another_pair_table_are_rejected(
    lab, model, listed, tmp_path, change, words
):
    save_model(change(load_model(model)), tmp_path / "bad.pth")
    with pytest.raises(EpicError, match=words):
        run(lab, tmp_path / "bad.pth", listed, tmp_path / "val.pt")
    assert not (tmp_path / "val.pt").exists()
