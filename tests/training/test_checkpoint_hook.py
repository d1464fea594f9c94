import os
import subprocess
import sys
from pathlib import Path

import mmaction
import pytest
import torch
from mmengine.runner import Runner

from epic100.base.errors import EpicError
from epic100.training.config import build_config
from epic100.training.settings import TrainSettings
from support.small_runs import SMALL, copy_results, run, same, work_dir

pytestmark = pytest.mark.slow


@pytest.fixture
def results(lab, tmp_path):
    return copy_results(lab, tmp_path)


def test_the_best_by_val_action_top1_is_kept_and_a_setting_changed_starts_anew_and_says_so(
    lab, results, caplog
):
    run(lab, results, epochs=3, validate={"every": 1})
    folder = work_dir(results)
    rows = [line.split("\t") for line in (folder / "training.tsv").read_text().splitlines()]
    scores = [float(row[rows[0].index("action_top1")]) for row in rows[1:]]
    best = torch.load(folder / "best.pth", weights_only=True)
    assert best["meta"]["epoch"] == scores.index(max(scores)) + 1
    names = sorted(path.name for path in folder.glob("*.pth"))
    assert names == ["best.pth", "iter_12.pth", "iter_8.pth", "model.pth"]
    caplog.clear()
    run(lab, results, {"optim_wrapper.optimizer.lr": 0.001}, epochs=3)
    out = caplog.text
    assert f"starting from the first batch: {folder} is another run, which differs in " in out
    assert "optim_wrapper.optimizer.lr (0.003 there, 0.001 here)" in out


def test_a_run_stopped_before_its_model_was_written_trains_no_batch_and_gives_the_same_model(
    lab, results
):
    first = run(lab, results, epochs=1)
    for path in (results / "model.pth", work_dir(results) / "model.pth"):
        path.unlink()
    (work_dir(results) / "best.pth").unlink()  # as if killed between the two
    assert same(run(lab, results, epochs=1), first)
    assert (work_dir(results) / "best.pth").is_file()


def test_a_checkpoint_of_another_model_or_pair_table_is_refused_and_stays(lab, results):
    run(lab, results, epochs=1)
    folder = work_dir(results)
    (folder / "model.pth").unlink()
    content = torch.load(folder / "iter_4.pth", weights_only=True)
    for key, value in (("pair table", "0" * 64), ("model.backbone.type", "SlowOnly")):
        foreign = {**content, "stamp": {**content["stamp"], key: value}}
        torch.save(foreign, folder / "iter_5.pth")
        with pytest.raises(EpicError, match=rf"iter_5.pth is .* not resumed: {key}.*load_from"):
            run(lab, results, epochs=1)
        assert (folder / "iter_5.pth").is_file()


def test_another_way_to_save_is_refused(lab, results):
    other = results.parent / "other.py"
    other.write_text(
        f"_base_ = ['{Path('config/x3d_demo.py').resolve()}']\n"
        "default_hooks = dict(checkpoint=dict(_delete_=True, type='CheckpointHook', interval=1))\n"
    )
    with pytest.raises(EpicError, match="checkpoint is CheckpointHook; expected SafeCh"):
        run(lab, results, config=str(other))


def test_mmaction2s_own_tool_trains_the_config_and_resumes_inside_an_epoch(lab, results):
    tool = Path(mmaction.__file__).parent / ".mim/tools/train.py"
    folder = results.parent / "own"
    command = [sys.executable, str(tool), "config/x3d_demo.py", "--work-dir", str(folder)]
    options = {**SMALL, "train_dataloader.batch_size": 2, "train_cfg.max_epochs": 1,
               "train_cfg.val_interval": 1, "default_hooks.checkpoint.iterations": 2}  # fmt: skip
    chosen = [f"{key}={value}".replace(" ", "") for key, value in options.items()]
    environment = {"EPIC100_RESULTS": str(results), "EPIC100_VIDEOS": lab.root}

    def train(*more):
        return subprocess.run(
            [*command, *more, "--cfg-options", *chosen], env={**os.environ, **environment},
            capture_output=True, text=True,
        )  # fmt: skip

    assert train().returncode == 0
    whole = torch.load(folder / "iter_4.pth", weights_only=True)["state_dict"]
    (folder / "iter_4.pth").unlink()
    again = train("--resume")
    assert again.returncode == 0 and "resumed epoch: 0, iter: 2" in again.stdout + again.stderr
    assert same(torch.load(folder / "iter_4.pth", weights_only=True)["state_dict"], whole)


def test_checkpoints_that_are_there_are_not_written_over_by_a_run_that_does_not_resume(
    lab, results
):
    run(lab, results, epochs=1)
    chosen = TrainSettings("config/x3d_demo.py", epochs=1, batch_size=2, options=SMALL)
    config = build_config(chosen, str(results), lab.root)
    config.default_hooks.checkpoint.go_on = False
    config.work_dir = str(work_dir(results))
    with pytest.raises(EpicError, match="holds checkpoints already; resume them"):
        Runner.from_cfg(config).train()
