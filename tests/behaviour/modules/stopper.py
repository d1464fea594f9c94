"""A hook for a training's config: it stops the training where `stop.json` in its folder says."""

import json
import os
import time
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from epic100.training.hooks import SaveHook


@HOOKS.register_module()
class Stopper(Hook):
    """Sends a signal inside a batch, counted from 1: to this process, its group, or Snakemake."""

    priority = "VERY_HIGH"

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        plan = Path("stop.json")
        if plan.exists():
            batch, number, whom = json.loads(plan.read_text())
            if runner.iter + 1 == batch:
                plan.unlink()
                if whom == "group":
                    os.killpg(0, number)
                else:  # Snakemake leads the session.
                    os.kill(os.getpid() if whom == "training" else os.getsid(0), number)
                    # Snakemake passes the signal on, and the batch lasts until it comes here.
                    while whom == "snakemake":
                        (save,) = (hook for hook in runner.hooks if isinstance(hook, SaveHook))
                        if save.signals.requested:
                            break
                        time.sleep(0.05)
