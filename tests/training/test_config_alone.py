"""The MMEngine config by itself, as MMAction2's tools/train.py runs it: no workflow around it."""

import os
import subprocess
import sys

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.training.config import build_config
from epic100.training.settings import TrainSettings
from support.checkout import ROOT

pytestmark = pytest.mark.slow

# What tools/train.py does with `CONFIG --work-dir FOLDER [--resume]`.
TOOL = """
import sys
from mmengine.config import Config
from mmengine.runner import Runner
config = Config.fromfile(sys.argv[1])
config.work_dir = sys.argv[2]
config.resume = len(sys.argv) > 3
config.merge_from_dict({"train_cfg.max_epochs": 2, "train_dataloader.batch_size": 8})
Runner.from_cfg(config).train()
"""


def test_the_config_trains_and_resumes_in_processes_that_know_nothing_else(lab, tmp_path):
    env = {**os.environ, "EPIC100_RESULTS": lab.results, "EPIC100_VIDEOS": lab.root}
    command = [sys.executable, "-c", TOOL, "config/x3d_demo.py", str(tmp_path)]
    weights = []
    for arguments in ([], ["--resume"]):
        done = subprocess.run([*command, *arguments], cwd=ROOT, env=env,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        weights.append(torch.load(tmp_path / "iter_6.pth", weights_only=True)["state_dict"])
        (tmp_path / "iter_6.pth").unlink()  # as if it had been killed in the second epoch
    assert "resumed epoch: 1, iter: " in done.stdout + done.stderr
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("text, words", [
    ('custom_imports = dict(imports=["no_such_module"], allow_failed_imports=False)\n',
     r"cannot be read \(ModuleNotFoundError: No module named 'no_such_module'\); see `train: conf"),
    ("epochs = (\n", r"cannot be read \(SyntaxError: "),
    ('_base_ = ["none.py"]\n', r"cannot be read \(FileNotFoundError: "),
])  # fmt: skip
def test_a_config_that_cannot_be_read_is_one_line_with_the_cause(tmp_path, text, words):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(EpicError, match=rf"^{path}: this MMEngine config {words}") as caught:
        build_config(TrainSettings(config=str(path)), "results", "videos")
    assert "\n" not in str(caught.value)
