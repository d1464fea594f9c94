"""Train each model of the zoo for some steps, by this workflow and by MMAction2 itself.

benchmarks/gpu.py --zoo starts a process for each training, since memory that one leaves on a GPU
would count for the next. Both read the same videos through the same pipeline and take the same
steps.
"""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import epic100.training.loop  # noqa: F401
import torch
from epic100.training.loop import ShortRunner
from mmaction.registry import DATA_SAMPLERS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils.data import Sampler

from epic100.base.gpu import Gpus
from epic100.base.machine import usable_cores, workers_for
from epic100.settings import TrainSettings
from epic100.training.plan import choose_device, plan_run
from epic100.training.recipe import Changes, build_config, changed, model_config

# The first steps choose kernels and start the loader, so they do not count.
STEPS, SKIPPED = 50, 10
# A training may take this many seconds.
SECONDS = 300
WAYS = ("this workflow", "MMAction2")
MODEL_FILES = [
    "config/x3d_s_epic_rgb_segments.py",
    *sorted(map(str, Path("config/zoo").glob("*.py"))),
]
# With these options, a small run trains its model in miniature.
SHRUNK: dict[str, Any] = {
    "model.backbone.embed_dims": 48,
    "model.backbone.num_heads": 4,
    "model.backbone.img_size": 32,
    "model.backbone.depth": 2,
    "model.cls_head.head.in_channels": 48,
    "train_dataloader.dataset.pipeline.2.size": 32,
    "train_dataloader.batch_size": 4,
}


@DATA_SAMPLERS.register_module()
class SomeSteps(Sampler):
    """A sampler of `number` samples of a dataset, in turn."""

    def __init__(self, dataset: Any, number: int, seed: int | None = None) -> None:
        self.dataset, self.number = dataset, number

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(itertools.cycle(range(len(self.dataset))), self.number)

    def __len__(self) -> int:
        return self.number


def zoo(kitchen: Path, small: bool) -> Iterator[dict[str, Any]]:
    """Measure each model and way: clips a second, GiB, and the share of the time spent waiting."""
    files = ["config/zoo/videomae_b.py"] if small else MODEL_FILES
    for file, way in itertools.product(files, WAYS):
        if Path(file).stem == "base":
            continue
        job = {"config": file, "ours": way == WAYS[0], "kitchen": str(kitchen), "small": small}
        command = [sys.executable, __file__, json.dumps(job)]
        row = {"model": Path(file).stem, "way": way}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            yield row | {"why_not": f"not done in {SECONDS} s"}
            continue
        if done.returncode:
            yield row | {"why_not": done.stderr.strip().splitlines()[-1][:80]}
        else:
            yield row | json.loads(done.stdout.splitlines()[-1])


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Train some steps in this process."""
    kitchen, small = Path(job["kitchen"]), job["small"]
    settings = TrainSettings(
        config=job["config"],
        load_from=None,
        device="cpu" if small else "cuda",
        epochs=1,
        precision="fp32" if small else None,
        options=SHRUNK if small else {},
        validate={"every": 9},
    )
    config = build_config(settings, str(kitchen / "results"), str(kitchen))
    placement = choose_device(settings.device, None, Gpus(torch.cuda.device_count()))
    work_dir = kitchen / "results/work_dirs" / f"{Path(job['config']).stem}_{job['ours']}"
    if job["ours"]:
        config = plan_run(config, settings, placement, work_dir=work_dir / "attempt_1").config
    else:
        config = changed(config, _as_mmaction2(config))
    steps, batch = 4 if small else STEPS, config.train_dataloader.batch_size
    config = changed(
        config,
        {
            "train_dataloader.sampler": {"type": "SomeSteps", "number": steps * batch},
            "work_dir": str(work_dir / "attempt_1"),
            "experiment_name": work_dir.name,
            **{
                f"{name}_{suffix}": None
                for name in ("val", "test")
                for suffix in ("dataloader", "cfg", "evaluator")
            },
            **(
                {
                    "default_hooks.checkpoint.go_on": False,
                    "default_hooks.checkpoint.seconds": None,
                    "default_hooks.telemetry.bar": False,
                }
                if job["ours"]
                else {}
            ),
        },
    )
    runner = ShortRunner.from_cfg(config)
    runner.train()
    skipped = 1 if small else SKIPPED
    whole, waiting = (
        runner.message_hub.get_scalar(f"train/{name}").data[0][skipped:]
        for name in ("time", "data_time")
    )
    gib = torch.cuda.max_memory_allocated() / 2**30
    return {
        "batch": batch,
        "clips_s": round(batch / float(whole.mean()), 2),
        "gib": round(gib, 1) if torch.cuda.is_available() else None,
        "waiting": round(float(waiting.sum() / whole.sum()), 2),
    }


def _as_mmaction2(config: Config) -> Changes:
    """What makes a config that of MMAction2's own tool: its classes, loop, hooks and loader."""
    model = model_config(config)["model"]
    for component in ("backbone", None):
        spec = model[component] if component else model
        classes = MODELS.get(spec["type"]).__mro__
        spec["type"] = next(c.__name__ for c in classes if c.__module__.startswith("mmaction."))
    preprocessor = model["data_preprocessor"]
    if mixing := preprocessor.get("blending"):
        preprocessor["blending"] = {
            "type": "RandomBatchAugment",
            "augments": [
                {
                    "type": operation,
                    "alpha": mixing[name],
                    "num_classes": model["cls_head"]["num_classes"],
                }
                for operation, name in (("MixupBlending", "mixup"), ("CutmixBlending", "cutmix"))
            ],
        }
    workers = workers_for(usable_cores(), 1) if torch.cuda.is_available() else 0
    return {
        "model": model,
        "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": 1},
        "train_dataloader.num_workers": workers,
        "train_dataloader.persistent_workers": workers > 0,
        "train_dataloader.collate_fn": {"type": "pseudo_collate"},
        "default_hooks": {"checkpoint": None},
        "custom_hooks": [],
    }


if __name__ == "__main__":
    init_default_scope("mmaction")
    print(json.dumps(measure(json.loads(sys.argv[1]))))
