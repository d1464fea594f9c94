"""bf16 and fp16, emulated: the whole training under autocast and gradient scaling on a CPU."""

import shutil
import signal

import pandas as pd
import pytest
import torch

from epic100.training.checkpoints import checkpoints
from support.cpu_autocast import autocast_on_cpu
from support.small_runs import (
    LOGGED,
    WHOLE,
    copy_results,
    end_of,
    run,
    said,
    same,
    signal_at,
    start,
    work_dir,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("precision, dtype, number, saved", [
    ("bf16", "bfloat16", signal.SIGUSR1, 3), ("fp16", "float16", signal.SIGKILL, 2),
])  # fmt: skip
def test_the_loss_falls_and_a_run_that_was_cut_ends_in_the_same_bits(
    lab, tmp_path, monkeypatch, caplog, precision, dtype, number, saved
):
    autocast_on_cpu(monkeypatch.setattr)
    results = copy_results(lab, tmp_path)
    chosen = {"precision": precision, "epochs": 3, "batch_size": 4}
    often = {"default_hooks.checkpoint.iterations": 1}
    straight = run(lab, results, often, **chosen)
    losses = pd.read_csv(results / "training.tsv", sep="\t")["loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    assert dtype in caplog.text  # in the start table
    scaler = torch.load(checkpoints(work_dir(results))[0])["optimizer"].get("loss_scaler")
    assert scaler == {} if precision == "bf16" else scaler["scale"] > 1

    shutil.rmtree(results / "work_dirs")
    cut = end_of(start(lab, results, often | signal_at(3, number), autocast=True, **chosen))
    assert cut == -number or (cut == 1 and "SIGUSR1 came: saved" in said(results))
    assert same(run(lab, results, often, **chosen), straight)
    assert f"resuming from {work_dir(results)}/iter_{saved}.pth" in caplog.text


def test_another_precision_is_another_run(lab, straight, tmp_path, monkeypatch, caplog):
    """bf16 after a finished run in fp32 trained nothing; fp16 after bf16 died in its scaler."""
    autocast_on_cpu(monkeypatch.setattr)
    results = shutil.copytree(straight.results, tmp_path / "results")
    chosen = WHOLE | {"options": LOGGED, "precision": "bf16", "accumulate": 2}
    assert not same(run(lab, results, **chosen), straight.weights)
    assert len(list(results.glob("work_dirs/*"))) == 2
    assert "is another run, which differs in optim_wrapper.type (OptimWrapper there" in caplog.text
    assert same(run(lab, results, **WHOLE), straight.weights)
    assert "has the finished model" in caplog.text
