"""A prediction as a whole: the same rows however it is shared out or cut short."""

import os
import shutil
import signal
import sys
import time
from dataclasses import replace

import psutil
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.base.log import rule_log
from epic100.base.ranks import PROCESS
from epic100.model.model_file import load_model, save_model
from epic100.prediction.shards import Shards
from epic100.segments.segment_list import read_segments, write_segments
from support.dying import fork, kill_after_a_shard
from support.models import predicted, save_random_model

pytestmark = pytest.mark.slow

# It counts segments of each of three videos.
EACH = 3


@pytest.fixture(scope="module")
def listed(lab, tmp_path_factory):
    """A list of three videos' segments, mixed, as no clean list is."""
    table = read_segments(f"{lab.results}/clean/train.txt")
    table["turn"] = table.groupby("path").cumcount()
    mixed = table[table["turn"] < EACH].sort_values("turn", kind="stable")
    path = tmp_path_factory.mktemp("list") / "val.txt"
    write_segments(mixed.drop(columns="turn"), path)
    assert len(mixed) == 3 * EACH
    return path


def run(*about, **settings):
    return predicted(*about, **{"batch_size": 2, "clips": 1} | settings)


@pytest.fixture(scope="module")
def straight(lab, model, listed, tmp_path_factory):
    """What is predicted at once: a row for each segment, in the order of the list."""
    found = run(lab, model, listed, tmp_path_factory.mktemp("straight") / "val.pt")
    assert found.narration_ids == read_segments(listed)["narration_id"].tolist()
    assert torch.allclose(found.log_probs.exp().sum(1), torch.ones(3 * EACH))
    assert len(found.log_probs.unique(dim=0)) == 3 * EACH
    return found


@pytest.fixture
def own(lab, tmp_path):
    """A copy of the lab that a test may spoil."""
    return replace(lab, folder=shutil.copytree(lab.folder, tmp_path / "lab"))


@pytest.mark.parametrize("settings", [{"workers": 2}, {"device": "cpu", "gpus": 2, "workers": 1}])
def test_rows_are_the_same_for_any_number_of_workers_and_processes(
    lab, model, listed, straight, tmp_path, settings
):
    shared = run(lab, model, listed, tmp_path / "val.pt", **settings)
    assert shared.narration_ids == straight.narration_ids
    assert torch.equal(shared.log_probs, straight.log_probs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["val.pt", "val.shards"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_a_prediction_with_a_granted_gpu_never_falls_back_to_the_cpu(
    lab, model, listed, tmp_path, monkeypatch
):
    # A paid job can look so if its driver is too old.
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    with pytest.raises(EpicError, match="SLURM_JOB_GPUS is 0, but torch"):
        run(lab, model, listed, tmp_path / "val.pt")


def test_another_number_of_threads_changes_last_digits_only(lab, model, listed, straight, tmp_path):
    torch.set_num_threads(2)
    found = run(lab, model, listed, tmp_path / "val.pt")
    torch.testing.assert_close(found.log_probs, straight.log_probs, atol=1e-5, rtol=0)


def test_a_prediction_that_was_killed_goes_on_from_the_videos_it_had(
    lab, model, listed, straight, tmp_path, caplog
):
    out = tmp_path / "val.pt"
    kill_after_a_shard(run, lab, model, listed, out)
    assert len(list(tmp_path.glob("val.shards/*/[!.]*.pt"))) == 1 and not out.exists()
    resumed = run(lab, model, listed, out)
    assert "going on: 1 of 3 videos are predicted already" in caplog.text
    assert torch.equal(resumed.log_probs, straight.log_probs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["val.pt", "val.shards"]


def test_shards_are_of_a_model_and_its_views_and_serve_again_after_others_were_tried(
    lab, model, listed, tmp_path, caplog
):
    out, other = tmp_path / "val.pt", save_random_model(lab, tmp_path / "other.pth", seed=1)
    run(lab, model, listed, out)
    first = out.read_bytes()
    for trained, settings in ((other, {}), (model, {"clips": 2})):
        run(lab, trained, listed, out, **settings)
        assert out.read_bytes() != first
    assert "are predicted already" not in caplog.text
    run(lab, model, listed, out)
    assert "going on: 3 of 3 videos are predicted already" in caplog.text
    assert out.read_bytes() == first


def test_a_shard_is_made_again_where_its_video_or_segments_changed_or_it_does_not_load(
    own, model, listed, straight, tmp_path, caplog
):
    out = tmp_path / "val.pt"
    # A folder in the place of the output makes the run fail at its end.
    (out / "in the way").mkdir(parents=True)
    with pytest.raises(EpicError, match="not written: Is a directory"):
        run(own, model, listed, out)
    shutil.rmtree(out)
    shards = sorted(tmp_path.glob("val.shards/*/*.pt"))
    shards[0].write_bytes(shards[0].read_bytes()[:-9])
    os.utime(own.videos["P03_07"].path(own.root), ns=(1, 1))
    table, changed = read_segments(listed), tmp_path / "changed.txt"
    table.loc[1, "stop"] -= 1
    write_segments(table, changed)
    found = run(own, model, changed, out)
    assert f"{shards[0]}: not a shard (cut short" in caplog.text and "going on" not in caplog.text
    assert torch.equal(found.log_probs[0], straight.log_probs[0])


VIDEO, STAMP = "P01/P01_01.MP4", "as it is now"


def test_the_shards_of_the_last_three_predictions_are_kept(tmp_path):
    for number, run in enumerate(["first", "second", "third", "first", "last"]):
        made = Shards(tmp_path / "val.pt", run)
        made.keep_newest()
        if made.read(VIDEO, STAMP) is None:
            made.write(VIDEO, STAMP, torch.zeros(1, 2))
        os.utime(made.folder / run, (number, number))
    assert sorted(path.name for path in made.folder.iterdir()) == ["first", "last", "third"]


def test_more_views_change_the_rows_and_need_no_larger_batches(
    lab, model, listed, straight, tmp_path
):
    found = run(lab, model, listed, tmp_path / "val.pt", clips=2, crops=3)
    assert torch.allclose(found.log_probs.exp().sum(1), torch.ones(3 * EACH))
    assert not torch.allclose(found.log_probs, straight.log_probs)
    again = run(lab, model, listed, tmp_path / "again.pt", clips=2, crops=3, batch_size=1)
    torch.testing.assert_close(again.log_probs, found.log_probs, atol=1e-4, rtol=1e-4)


def test_a_list_of_no_segment_gives_an_empty_file(lab, model, tmp_path):
    (tmp_path / "val.txt").touch()
    with pytest.raises(EpicError, match=r"val\.txt: no segment in it, and .*dropped\.tsv"):
        run(lab, model, tmp_path / "val.txt", tmp_path / "val.pt")
    (tmp_path / "dropped.tsv").write_text("narration_id\tsplit\treason\nP01_01_0\tval\tno file\n")
    found = run(lab, model, tmp_path / "val.txt", tmp_path / "val.pt")
    assert found.log_probs.shape == (0, len(found.pairs)) and found.narration_ids == []


@pytest.mark.parametrize(
    "settings",
    [{}, {"workers": 1}, pytest.param({"device": "cpu", "gpus": 2}, marks=pytest.mark.thorough)],
)
def test_a_video_that_is_gone_is_one_line_that_names_it_and_keeps_the_others(
    own, model, listed, tmp_path, settings
):
    own.videos["P03_07"].path(own.root).unlink()
    with pytest.raises(EpicError, match=r"P03_07\.MP4") as caught:
        run(own, model, listed, tmp_path / "out/val.pt", **settings)
    assert "\n" not in str(caught.value) and "Error:" not in str(caught.value)
    assert not (tmp_path / "out/val.pt").exists()
    # With two processes, the first that fails ends the other, which may have saved nothing.
    if not settings.get("gpus"):
        assert len(list(tmp_path.glob("out/val.shards/*/*.pt"))) >= 1


def nan(model):
    weights = {name: value.clone() for name, value in model.state_dict.items()}
    weights["cls_head.fc2.bias"][3] = torch.nan
    return replace(model, state_dict=weights)


@pytest.mark.parametrize(
    "change, words",
    [
        (nan, r"^P0\S+_\d+: .*bad\.pth gives NaN or infinity; look at"),
        (
            lambda model: replace(model, pairs=model.pairs[:1]),
            r"bad\.pth: its model gives 8 scores .* are of 1; the two",
        ),
    ],
)
def test_a_model_that_gives_no_number_or_has_another_pair_table_is_one_line(
    lab, model, listed, tmp_path, change, words
):
    save_model(change(load_model(model)), tmp_path / "bad.pth")
    with pytest.raises(EpicError, match=words):
        run(lab, tmp_path / "bad.pth", listed, tmp_path / "val.pt")
    assert not (tmp_path / "val.pt").exists()


def predict_as_a_rule_does(folder, *arguments):
    """In a group of its own, where Ctrl-C is not ignored, as it would be below `nohup`."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(folder / "said.txt", "w") as sys.stderr, rule_log(folder / "rule.log"):
        run(*arguments, folder / "val.pt", workers=1, device="cpu", gpus=2)


STOPPED = "error: stopped by Ctrl-C; the same command goes on from what is done\n"
KILLED = "error: stopped, because process 0 was killed by SIGKILL (out of memory, or by hand); "


@pytest.mark.parametrize(
    "what, code, words",
    [
        ("Ctrl-C", 130, STOPPED),
        ("one of them", 1, KILLED),
        ("who waits", -signal.SIGKILL, ""),
    ],
)
def test_what_ends_a_prediction_ends_every_process_and_is_one_line(
    lab, model, listed, tmp_path, what, code, words
):
    process = fork.Process(target=predict_as_a_rule_does, args=(tmp_path, lab, model, listed))
    process.start()
    children: list[psutil.Process] = []
    # Both processes have more than 64 MiB once they import torch.
    while len(children) < 2 or any(c.memory_info().rss < 2**26 for c in children):
        time.sleep(0.05)
        # The server of the guard is a child, too.
        every = psutil.Process(process.pid).children()
        children = [c for c in every if PROCESS in c.cmdline()]
    if what == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(process.pid if what == "who waits" else children[0].pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == code
    said = (tmp_path / "said.txt").read_text()
    assert words in said and "Traceback" not in said
    # A busy machine may need long.
    psutil.wait_procs(children, timeout=300)
    assert not any(child.is_running() for child in children)
