import signal
import socket

import pandas as pd
import pytest
import torch
from mmengine.dataset import DefaultSampler

from epic100.base.errors import EpicError
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.clips.sampling import VideoPoolSampler
from epic100.segments.segment_list import read_segments
from epic100.training.loop import RestOfOrder
from support.small_runs import copy_results, end_of, run, said, same, signal_at, start, work_dir

pytestmark = pytest.mark.slow

LOADERS = {
    "no workers": {"workers": 0},
    "workers": {"workers": 2, "options": {"train_dataloader.persistent_workers": False}},
    "persistent workers": {"workers": 2},
}


@pytest.fixture(scope="module")
def straight(lab, tmp_path_factory):
    """The weights and the history of a training that nothing cuts."""
    results = copy_results(lab, tmp_path_factory.mktemp("straight"))
    weights = run(lab, results)
    return weights, pd.read_csv(results / "training.tsv", sep="\t")


@pytest.mark.parametrize("loader, killed", list(zip(LOADERS, (4, 7, 6), strict=True)))
def test_a_run_killed_inside_an_epoch_ends_in_the_same_weights_and_rows(
    lab, tmp_path, straight, loader, killed
):
    results = copy_results(lab, tmp_path)
    settings = {"checkpoint": {"iterations": 2}, **LOADERS[loader]}
    options = settings.pop("options", {})
    process = start(lab, results, {**options, **signal_at(killed, signal.SIGKILL)}, **settings)
    assert end_of(process) == -signal.SIGKILL
    weights = run(lab, results, options, **settings)
    assert same(weights, straight[0])
    log = "".join(path.read_text() for path in work_dir(results).glob("*/*.log"))
    assert f"resumed epoch: {(killed - 1) // 4}, iter: {(killed - 1) // 2 * 2}" in log
    rows = pd.read_csv(results / "training.tsv", sep="\t")
    exact = ["epoch", "iter", "lr", "loss", "verb_top1", "action_top5"]
    assert rows[exact].equals(straight[1][exact])


def test_an_average_of_the_weights_goes_on_where_it_was_cut(lab, tmp_path, straight):
    cut, whole = (copy_results(lab, tmp_path / name) for name in ("cut", "whole"))
    settings = {"ema": 0.7, "checkpoint": {"iterations": 2}}
    assert end_of(start(lab, cut, signal_at(6, signal.SIGKILL), **settings)) == -signal.SIGKILL
    averaged = run(lab, whole, **settings)
    assert same(run(lab, cut, **settings), averaged) and not same(averaged, straight[0])


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_to_the_whole_group_saves_in_the_same_iteration_and_stops(lab, tmp_path, number,
                                                                          straight):  # fmt: skip
    results = copy_results(lab, tmp_path)
    process = start(lab, results, signal_at(3, number, group=True), workers=2)
    assert end_of(process) == 1
    words = said(results).strip().splitlines()[-1]
    saved = work_dir(results) / "iter_3.pth"
    assert words == (
        f"error: {signal.Signals(number).name} came: saved {saved} after 3 of 8 iterations and "
        "stopped; the same command goes on from there"
    )
    if number == signal.SIGUSR1:
        assert same(run(lab, results), straight[0])


def test_ranks_agree_to_stop_and_each_takes_its_own_batch_norm_back(lab, tmp_path):
    def both(folder, options, port, **settings):
        ranks = [start(lab, folder, options, (n, 2, port), batch_size=1, **settings)
                 for n in (0, 1)]  # fmt: skip
        return [end_of(process) for process in ranks]

    cut, straight = (copy_results(lab, tmp_path / name) for name in ("cut", "straight"))
    assert both(straight, {}, free_port()) == [0, 0]
    assert both(cut, signal_at(3, signal.SIGUSR1, rank=1), free_port()) == [1, 1]
    assert "saved" in said(cut) and (work_dir(cut) / "iter_3.pth").is_file()
    states = torch.load(work_dir(cut) / "iter_3.pth", weights_only=True)["rank_states"]
    key = "backbone.conv1_t.bn.running_mean"
    assert not torch.equal(states[0]["buffers"][key], states[1]["buffers"][key])
    assert both(cut, {}, free_port()) == [0, 0]
    ends = [torch.load(work_dir(f) / "iter_8.pth", weights_only=True) for f in (cut, straight)]
    assert same(ends[0]["state_dict"], ends[1]["state_dict"])
    for one, other in zip(*(end["rank_states"] for end in ends), strict=True):
        assert same(one["buffers"], other["buffers"])


NOT_FINITE = {
    "loss": ({"lr": 1e30},
             r"the loss is (nan|inf); the batch is \S+, \S+; the last good checkpoint is \S+;"),
    "weight": ({"type": "SGD", "lr": 1e20, "weight_decay": 1e30},
               "weights are NaN or infinite, and so not saved; the last good checkpoint is none;"),
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_FINITE)
def test_a_loss_or_weight_that_is_not_finite_stops_before_it_is_saved(lab, tmp_path, what):
    optimizer, words = NOT_FINITE[what]
    results = copy_results(lab, tmp_path)
    options = {"optim_wrapper.optimizer": optimizer, "param_scheduler": []}
    with pytest.raises(EpicError, match=words) as error:
        run(lab, results, options, checkpoint={"iterations": 1})
    listed = read_segments(results / "clean/train.txt")["narration_id"].tolist()
    if what == "loss":
        named = str(error.value).split("batch is ")[1].split("; ")[0].split(", ")
        assert len(named) == 2 and set(named) < set(listed)
    for path in work_dir(results).glob("iter_*.pth"):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize("kind", [DefaultSampler, VideoPoolSampler])
def test_the_rest_of_an_order_is_its_end_and_counts_as_the_whole(lab, kind):
    dataset = EpicSegmentVideoDataset(f"{lab.results}/clean/train.txt", [], None, test_mode=True)
    sampler = kind(dataset, seed=3)
    sampler.set_epoch(5)
    rest = RestOfOrder(sampler)
    assert list(rest) == list(sampler)
    rest.start = 13
    assert list(rest) == list(sampler)[13:] and len(rest) == len(dataset)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]
