"""Measure the training on a node with a GPU: speed, memory, loader, waiting, kill and resume.

    python benchmarks/gpu.py            # one GPU, at most ten minutes, no network, no data
    python benchmarks/gpu.py --zoo      # each default of the zoo for 50 steps, beside MMAction2's
                                        # own training of that config: an hour at most
    python benchmarks/gpu.py --small    # the same on a CPU, in miniature: no figure of it counts

Prints a table for docs/evidence/gpu.md; the last line is one JSON object. Videos are made here
(benchmarks/archive_files.py). A part that its time does not reach is named as not measured.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from archive_files import SOURCES, make_kitchens
from gpu_zoo import zoo
from mmaction.registry import DATASETS, MODELS
from mmaction.structures import ActionDataSample
from mmengine.registry import init_default_scope
from tables import markdown
from torch.utils.data import DataLoader

import epic100.mmaction  # noqa: F401
from epic100.base.errors import EpicError
from epic100.base.machine import usable_cores, workers_for
from epic100.clips.dataset import collate_in_one
from epic100.settings import TrainSettings
from epic100.training.launch import launch
from epic100.training.recipe import build_config

PRECISIONS = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}
LAYOUTS = {"channels-last": "ChannelsLastRecognizer3D", "plain": "Recognizer3D"}
SECONDS = 600.0
# Each table has the figures of its columns.
TABLES = {
    "steps": ("layout", "precision", "batch", "clips_s", "gib"),
    "loader": ("source", "workers", "clips_s"),
    "zoo": ("model", "way", "batch", "clips_s", "gib", "waiting"),
}
SMALL = {
    "model.backbone.gamma_d": 1.0,
    "train_dataloader.dataset.pipeline.2.short_side": [36, 40],
    "train_dataloader.dataset.pipeline.2.size": 32,
}


class Bench:
    """A run of the benchmark: its device, sizes and start."""

    def __init__(self, small: bool):
        self.small = small
        self.device = "cpu" if small else "cuda"
        self.options: dict[str, Any] = dict(SMALL) if small else {}
        self.size = 32 if small else 160
        self.batches = (2,) if small else (8, 32, 128)
        self.began = time.monotonic()

    def left(self, share: float) -> bool:
        """Whether less than this share of `SECONDS` is over."""
        return self.small or time.monotonic() - self.began < share * SECONDS

    def settings(self, **more: Any) -> TrainSettings:
        """Make the settings of a training by the default recipe, in the size of this run."""
        options = {**self.options, **more.pop("options", {})}
        return TrainSettings(
            config="config/x3d_s_epic_rgb_segments.py",
            load_from=None,
            options=options,
            device=self.device,
            **more,
        )

    def train(self, folder: Path, **more: Any) -> subprocess.Popen:
        """Train in `folder` in a process of its own."""
        job = {"settings": self.settings(**more).model_dump(by_alias=True), "folder": str(folder)}
        command = [sys.executable, __file__, "--train", json.dumps(job)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


def steps(bench: Bench, kitchen: Path) -> Iterator[dict[str, Any]]:
    """Measure clips a second and GiB of training steps, by layout, precision and batch."""
    torch.backends.cudnn.benchmark = True
    spec = build_config(bench.settings(), str(kitchen / "results"), str(kitchen)).model
    for layout, precision, batch in product(LAYOUTS, PRECISIONS, bench.batches):
        row = {"layout": layout, "precision": precision, "batch": batch}
        if not bench.left(0.6):
            yield row | {"why_not": "out of time"}
            continue
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
        try:
            yield row | _steps(bench, {**spec, "type": LAYOUTS[layout]}, precision, batch)
        # The GPU has too little memory, or no kernel for it.
        except RuntimeError as error:
            yield row | {"why_not": str(error).splitlines()[0][:80]}
        finally:
            if bench.device == "cuda":
                torch.cuda.empty_cache()


def _steps(bench: Bench, spec: dict[str, Any], precision: str, batch: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model = MODELS.build(spec).to(bench.device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    scaler = torch.amp.GradScaler(bench.device, enabled=precision == "fp16")
    shape = (1, 3, 13, bench.size, bench.size)
    labels = [ActionDataSample().set_gt_label(0) for _ in range(batch)]
    inputs = [torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(batch)]
    on_gpu = bench.device == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    times: list[float] = []
    until = time.monotonic() + (0 if bench.small else 4)
    while len(times) < 3 or (time.monotonic() < until and len(times) < 40):
        began = time.perf_counter()
        data = model.data_preprocessor({"inputs": inputs, "data_samples": labels}, True)
        dtype = getattr(torch, PRECISIONS[precision])
        with torch.autocast(bench.device, dtype, enabled=dtype != torch.float32):
            losses = model(**data, mode="loss")
        scaler.scale(model.parse_losses(losses)[0]).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    rate = batch / float(np.median(times[2:]))
    gib = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None
    return {"clips_s": round(rate, 3 if bench.small else 1), "gib": gib and round(gib, 1)}


def loader(bench: Bench, kitchens: dict[str, Path]) -> Iterator[dict[str, Any]]:
    """Measure clips a second of the training's pipeline on all cores, by source."""
    workers = workers_for(usable_cores(), 1)
    for source, kitchen in kitchens.items():
        config = build_config(bench.settings(), str(kitchen / "results"), str(kitchen))
        data = DATASETS.build(config.train_dataloader.dataset)
        batches = iter(DataLoader(data, 8, num_workers=workers, collate_fn=collate_in_one))
        next(batches)
        count, began = 0, time.perf_counter()
        for batch in batches:
            count += len(batch["inputs"])
            if time.perf_counter() - began > (1 if bench.small else 20):
                break
        rate = count / (time.perf_counter() - began)
        yield {
            "source": source,
            "workers": workers,
            "clips_s": round(rate, 3 if bench.small else 1),
        }


def trainings(bench: Bench, kitchen: Path) -> dict[str, Any]:
    """Train for two epochs with a kill in between; return the rate, the waiting and the end."""
    chosen = {
        "epochs": 2,
        "batch_size": bench.batches[min(1, len(bench.batches) - 1)],
        "options": {"default_hooks.checkpoint.iterations": 1},
    }
    process = bench.train(kitchen, **chosen)
    while process.poll() is None and not list(kitchen.glob("results/work_dirs/*/*/iter_*.pth")):
        time.sleep(0.1)
    killed = process.poll() is None
    if killed:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    code = bench.train(kitchen, **chosen).wait()
    figures: dict[str, Any] = {"killed": killed, "resumed_and_finished": code == 0}
    if code == 0:
        row = pd.read_csv(kitchen / "results/training.tsv", sep="\t").iloc[-1]
        figures |= {
            "clips_s": round(row["samples_per_s"], 1),
            "waiting": round(row["data_share"], 2),
        }
    if bench.device == "cuda" and torch.cuda.device_count() > 1:
        code = bench.train(kitchen, epochs=1, gpus=2, seed=1, batch_size=32).wait()
        figures["two_processes_over_nccl"] = code == 0
    return figures


def train_here(job: dict[str, Any]) -> int:
    """Train as a rule does."""
    folder = Path(job["folder"])
    try:
        launch(
            TrainSettings.model_validate(job["settings"]),
            model_path=folder / "results/model.pth",
            history_path=folder / "results/training.tsv",
            results=str(folder / "results"),
            video_root=str(folder),
            num_verbs=97,
            num_nouns=300,
        )
    except EpicError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def report(found: dict[str, Any]) -> str:
    """Write the tables as Markdown."""
    node = found["about"]
    blocks = [f"{node['device']}, torch {node['torch']}, {node['cores']} cores"]
    for name, columns in TABLES.items():
        rows = [{"clips_s": row.get("why_not"), **row} for row in found[name]]
        head = " | ".join(columns).replace("clips_s", "clips/s")
        blocks.append(markdown(head, (map(row.get, columns) for row in rows)))
    blocks.append("\n".join(f"- {key}: {value}" for key, value in found["training"].items()))
    return "\n\n".join(blocks)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="in miniature, on the CPU")
    parser.add_argument("--zoo", action="store_true", help="each default of the zoo instead")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        return train_here(json.loads(options.train))
    if not options.small and not torch.cuda.is_available():
        print("error: torch sees no GPU here; --small runs in miniature on a CPU", file=sys.stderr)
        return 1
    bench = Bench(options.small)
    init_default_scope("mmaction")
    device = "CPU, in miniature" if options.small else torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory() as name:
        sources = dict(list(SOURCES.items())[:1]) if options.small else SOURCES
        kitchens = make_kitchens(Path(name), sources, seconds=2.5 if options.small else 30)
        first = next(iter(kitchens.values()))
        results = {
            "about": {"device": device, "torch": torch.__version__, "cores": usable_cores()},
            "steps": [] if options.zoo else list(steps(bench, first)),
            "loader": [] if options.zoo else list(loader(bench, kitchens)),
            "training": {} if options.zoo else trainings(bench, first),
            "zoo": list(zoo(first, options.small)) if options.zoo or options.small else [],
        }
    results["about"]["seconds"] = round(time.monotonic() - bench.began)
    print(report(results))
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
