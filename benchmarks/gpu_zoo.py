"""Short trainings, each in a process of its own: what a GPU computes, and how long it waits.

benchmarks/gpu.py measures loading with them, and with --zoo each model of the zoo beside MMAction2
itself: the same videos, pipeline and steps. Memory that one training leaves on a GPU would count
for the next in the same process.
"""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmaction.registry import DATA_SAMPLERS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.data import Sampler

import epic100.mmaction  # noqa: F401
from epic100.base.machine import usable_cores, workers_for
from epic100.base.processes import Gpus, choose_device
from epic100.settings.training import TrainSettings
from epic100.training.plan import plan_run
from epic100.training.recipe import DEFAULT, NO_VALIDATION, build_config, model_config
from epic100.training.train import TrainRunner

# The first steps choose kernels and start the loader, so they do not count.
STEPS, SKIPPED = 50, 10
# A training may take this many seconds.
SECONDS = 300
WAYS = ("this workflow", "MMAction2")
# The recipes on an encoder of Hugging Face need a folder of the user's.
ZOO = sorted(map(str, {*Path("config/zoo").glob("[!h]*.py")} - {Path("config/zoo/base.py")}))
# With these options, a small run trains its model in miniature.
SMALL_X3D: dict[str, Any] = {
    "model.backbone.gamma_d": 1.0,
    "train_dataloader.dataset.pipeline.2.short_side": [36, 40],
    "train_dataloader.dataset.pipeline.2.size": 32,
    "train_dataloader.batch_size": 4,
}
SMALL_VIDEOMAE: dict[str, Any] = {
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
    """Measure each model of the zoo in each way."""
    files = ["config/zoo/videomae_b.py"] if small else [DEFAULT, *ZOO]
    for file, way in itertools.product(files, WAYS):
        job = {"config": file, "way": way, "options": SMALL_VIDEOMAE if small else {}}
        yield {"model": Path(file).stem, "way": way} | train_apart(kitchen, small, **job)


def train_apart(kitchen: Path, small: bool, **job: Any) -> dict[str, Any]:
    """Do `measure` in a process of its own; a failure is `why_not` in the row."""
    job |= {"kitchen": str(kitchen), "small": small}
    command = [sys.executable, __file__, json.dumps(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"why_not": f"not done in {SECONDS} s"}
    if done.returncode:
        return {"why_not": done.stderr.strip().splitlines()[-1][:80]}
    return json.loads(done.stdout.splitlines()[-1])


def measure(
    kitchen: str,
    small: bool,
    config: str = DEFAULT,
    way: str = WAYS[0],
    options: dict[str, Any] | None = None,
    workers: int | None = None,
    steps: int = STEPS,
    skipped: int = SKIPPED,
) -> dict[str, Any]:
    """Train some steps in this process.

    Returns:
        The segments that are computed at once, clips a second, GiB, and the share of the time in
        which a step waits for its clips: the `data_share` of training.tsv, from step `skipped` on.
    """
    settings = TrainSettings(
        config=config,
        load_from=None,
        device="cpu" if small else "cuda",
        epochs=1,
        precision="fp32" if small else None,
        workers=workers,
        options=options or {},
    )
    recipe = build_config(settings, f"{kitchen}/results", kitchen)
    ours = way == WAYS[0]
    if ours:
        placement = choose_device("train", settings.device, None, Gpus(torch.cuda.device_count()))
        recipe = plan_run(recipe, settings, placement, work_dir="")
        never = {"seconds": float("inf"), "interval": -1, "save_last": False}
        recipe.default_hooks.checkpoint.update(never)
    else:
        _make_mmaction2(recipe)
    batch = recipe.train_dataloader.batch_size
    recipe.train_dataloader.sampler = {"type": "SomeSteps", "number": steps * batch}
    recipe.work_dir = f"{kitchen}/results/work_dirs/{Path(config).stem}_{ours}_{workers}"
    recipe.update(NO_VALIDATION)
    recipe.update(dict.fromkeys(("test_dataloader", "test_cfg", "test_evaluator")))
    runner = (TrainRunner if ours else Runner).from_cfg(recipe)
    runner.train()
    whole, waiting = (
        runner.message_hub.get_scalar(f"train/{name}").data[0][skipped:]
        for name in ("time", "data_time")
    )
    gib = torch.cuda.max_memory_allocated() / 2**30
    return {
        "batch": batch,
        "clips_s": round(batch / float(whole.mean()), 1),
        "gib": None if small else round(gib, 1),
        "waiting": round(float(waiting.sum() / whole.sum()), 2),
    }


def _make_mmaction2(config: Config) -> None:
    """Give a config the classes, loop, hooks and loader of MMAction2's own tool."""
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
    config.model = model
    config.train_cfg = {"type": "EpochBasedTrainLoop", "max_epochs": 1}
    config.train_dataloader.num_workers = workers
    config.train_dataloader.persistent_workers = workers > 0
    config.train_dataloader.collate_fn = {"type": "pseudo_collate"}
    config.default_hooks = {"checkpoint": None}
    config.custom_hooks = []


if __name__ == "__main__":
    init_default_scope("mmaction")
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
