"""bf16 and fp16, emulated: the whole training under autocast and gradient scaling on a CPU."""

import re
import shutil
import signal

import pandas as pd
import pytest
import torch

from epic100.training.checkpoints import checkpoints
from support.cpu_autocast import autocast_on_cpu
from support.small_runs import copy_results, end_of, run, said, same, signal_at, start, work_dir

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("precision, dtype", [("bf16", "bfloat16"), ("fp16", "float16")])
def test_the_loss_falls_and_a_killed_run_ends_in_the_same_bits(
    lab, tmp_path, monkeypatch, caplog, precision, dtype
):
    autocast_on_cpu(monkeypatch.setattr)
    results = copy_results(lab, tmp_path)
    chosen = {"precision": precision, "epochs": 3, "batch_size": 4, "checkpoint": {"iterations": 1}}
    straight = run(lab, results, **chosen)
    losses = pd.read_csv(results / "training.tsv", sep="\t")["loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    assert dtype in caplog.text  # in the start table
    scaler = torch.load(checkpoints(work_dir(results))[0])["optimizer"].get("loss_scaler")
    assert scaler == {} if precision == "bf16" else scaler["scale"] > 1

    shutil.rmtree(results / "work_dirs")
    killed = start(lab, results, signal_at(3, signal.SIGKILL), autocast=True, **chosen)
    assert end_of(killed) == -signal.SIGKILL
    if precision == "bf16":  # fp16 takes a CPU four times as long
        warned = start(lab, results, signal_at(4, signal.SIGUSR1), autocast=True, **chosen)
        assert end_of(warned) == 1 and "SIGUSR1 came: saved" in said(results)
    assert same(run(lab, results, **chosen), straight)
    assert re.search(r"resuming from \S+iter_[24].pth", caplog.text)


def test_another_precision_is_another_run(lab, tmp_path, monkeypatch, caplog):
    """bf16 after a finished run in fp32 trained nothing; fp16 after bf16 died in its scaler."""
    autocast_on_cpu(monkeypatch.setattr)
    results = copy_results(lab, tmp_path)
    weights = [
        run(lab, results, precision=precision, epochs=1, batch_size=4, accumulate=2)
        for precision in ("fp32", "bf16")
    ]
    assert not same(*weights)
    assert len(list(results.glob("work_dirs/*"))) == 2
    assert "is another run, which differs in optim_wrapper.type (OptimWrapper there" in caplog.text
    caplog.clear()
    assert same(run(lab, results, epochs=1, batch_size=4, accumulate=2), weights[0])
    assert "has the finished model" in caplog.text
