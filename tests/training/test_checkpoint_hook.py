import shutil
from pathlib import Path

import mmaction
import pytest
import torch
from mmengine.runner import Runner

from epic100.base.errors import EpicError
from support.checkout import python, said
from support.small_runs import DEMO, SMALL, WHOLE, built, copy_results, run, same, work_dir

pytestmark = pytest.mark.slow


@pytest.fixture
def results(straight, tmp_path):
    """A copy of the results of a finished training, without its model."""
    results = shutil.copytree(straight.results, tmp_path / "results")
    (work_dir(results) / "model.pth").unlink()
    return results


def test_a_checkpoint_of_another_pair_table_is_refused_and_stays(lab, results):
    folder = work_dir(results)
    content = torch.load(folder / "iter_9.pth", weights_only=True)
    stamp = content["stamp"] | {"pair table": "0" * 64}
    torch.save({**content, "stamp": stamp}, folder / "iter_10.pth")
    with pytest.raises(EpicError, match=r"iter_10.pth is .* not resumed: pair table.*load_from"):
        run(lab, results, **WHOLE)
    assert (folder / "iter_10.pth").is_file()


def test_another_way_to_save_is_refused(lab, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(
        f"_base_ = ['{Path(DEMO).resolve()}']\n"
        "default_hooks = dict(checkpoint=dict(_delete_=True, type='CheckpointHook', interval=1))\n"
    )
    with pytest.raises(EpicError, match="expected default_hooks.checkpoint.type = 'SafeCh"):
        built(lab, config=str(other))


def test_mmaction2s_own_tool_trains_the_config_and_resumes_inside_an_epoch(lab, tmp_path):
    """In processes that know nothing of the workflow: the config names all that they import."""
    tool = Path(mmaction.__file__).parent / ".mim/tools/train.py"
    folder = tmp_path / "own"
    options = {**SMALL, "train_dataloader.batch_size": 2, "train_cfg.max_epochs": 1,
               "train_cfg.val_interval": 1, "default_hooks.checkpoint.iterations": 2}  # fmt: skip
    chosen = [f"{key}={value}".replace(" ", "") for key, value in options.items()]
    results = copy_results(lab, tmp_path)
    (tmp_path / "videos").symlink_to(lab.root)
    assert results == tmp_path / "results"  # the config finds both in the folder of the call

    def train(*more):
        done = python(tool, Path(DEMO).absolute(), "--work-dir", folder, *more, "--cfg-options",
                      *chosen, cwd=tmp_path)  # fmt: skip
        return torch.load(folder / "iter_4.pth", weights_only=True)["state_dict"], done

    whole, _ = train()
    (folder / "iter_4.pth").unlink()
    again, done = train("--resume")
    assert "resumed epoch: 0, iter: 2" in said(done)
    assert same(again, whole)


def test_checkpoints_that_are_there_are_not_written_over_by_a_run_that_does_not_resume(
    lab, results
):
    config = built(lab, results, options=SMALL, **WHOLE)
    config.default_hooks.checkpoint.go_on = False
    config.work_dir = str(work_dir(results))
    with pytest.raises(EpicError, match="holds checkpoints already; resume them"):
        Runner.from_cfg(config).train()
