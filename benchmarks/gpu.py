"""Measure the training on a node with a GPU: speed, loading, reading of metrics, memory, a kill.

    python benchmarks/gpu.py            # one GPU, at most ten minutes, no network, no data
    python benchmarks/gpu.py --zoo      # each default of the zoo for 50 steps, beside MMAction2's
                                        # own training of that config: an hour at most
    python benchmarks/gpu.py --small    # all of it on a CPU, in miniature: no figure of it counts

Prints a table for docs/evidence/gpu.md as soon as it is measured, what matters most first; the last
line is one JSON object. A row that its time does not reach says so. Videos are made here
(benchmarks/archive_files.py). fp32 is torch's, whose convolutions compute in TF32.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch
from archive_files import SOURCES, make_kitchens
from gpu_zoo import SMALL_X3D, train_apart, zoo
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.registry import init_default_scope
from tables import markdown

import epic100.mmaction  # noqa: F401
from epic100.base.log import log_to_stdout
from epic100.base.machine import usable_cores
from epic100.settings.training import TrainSettings
from epic100.training.recipe import build_config
from epic100.training.train import train

# After this many seconds, nothing new is begun.
SECONDS = 500
LAYOUTS = {"plain": "Recognizer3D", "channels-last": "ChannelsLastRecognizer3D"}
PRECISIONS = ("fp32", "bf16")
# Loops of steps: whether each step reads its metrics, and whether it waits for its clips to come.
LOOPS = {
    "as MMEngine: reads them, waits for its clips": (True, True),
    "does not read them": (False, True),
    "neither reads nor waits": (False, False),
}


class Bench:
    """A run of the benchmark: its device, its sizes, its folders to train in, and its start."""

    def __init__(self, small: bool, folder: Path):
        self.small, self.began = small, time.monotonic()
        self.device = "cpu" if small else "cuda"
        self.batch, self.others = (4, (2,)) if small else (32, (8, 128))
        self.kitchens = make_kitchens(folder, SOURCES, seconds=2.5 if small else 20)
        self.kitchen = self.kitchens[next(iter(SOURCES))]

    def is_over(self) -> bool:
        """Whether nothing new should begin."""
        return not self.small and time.monotonic() - self.began > SECONDS

    def row(self, names: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Measure a row of a table, unless its time is over; a failure is `why_not` in it."""
        if self.is_over():
            return names | {"why_not": "out of time"}
        try:
            return names | measure()
        # The GPU has too little memory, or no kernel for it.
        except RuntimeError as error:
            return names | {"why_not": str(error).splitlines()[0][:80]}
        finally:
            if not self.small:
                torch.cuda.empty_cache()

    def settings(self, **chosen: Any) -> TrainSettings:
        """Make the settings of a training by the default recipe, in the size of this run."""
        options = (SMALL_X3D if self.small else {}) | chosen.pop("options", {})
        return TrainSettings(load_from=None, options=options, device=self.device, **chosen)

    def train(self, **chosen: Any) -> subprocess.Popen:
        """Train as a rule does, in a process of its own."""
        job = {"settings": self.settings(**chosen).model_dump(by_alias=True)}
        command = [sys.executable, __file__, "--train", json.dumps(job | {"at": str(self.kitchen)})]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


class Steps:
    """X3D-S of the default recipe, which learns from one batch again and again."""

    def __init__(self, bench: Bench, layout: str, precision: str, batch: int):
        torch.manual_seed(0)
        config = build_config(bench.settings(), f"{bench.kitchen}/results", str(bench.kitchen))
        self.device, self.is_bf16, self.batch = bench.device, precision == "bf16", batch
        self.model = MODELS.build({**config.model, "type": LAYOUTS[layout]}).to(bench.device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        side = config.train_dataloader.dataset.pipeline[2].size
        clips = torch.randint(0, 256, (batch, 1, 3, 13, side, side), dtype=torch.uint8)
        self.clips = list(clips if bench.small else clips.pin_memory())
        self.labels = [ActionDataSample().set_gt_label(0) for _ in range(batch)]
        self.rounds = 2 if bench.small else 10
        self.run(3)

    def step(self, reads: bool) -> None:
        """Make a step as MMEngine does."""
        batch = {"inputs": self.clips, "data_samples": self.labels}
        with torch.autocast(self.device, torch.bfloat16, enabled=self.is_bf16):
            losses = self.model(**self.model.data_preprocessor(batch, True), mode="loss")
        loss, metrics = self.model.parse_losses(losses)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 40)
        if reads:
            norm.item()
        self.optimizer.step()
        self.optimizer.zero_grad()
        _ = [value.item() for value in metrics.values() if reads]

    def run(self, count: int, reads: bool = True, waits: bool = True) -> float:
        """Make some steps, and return the ms of each."""
        self.model.data_preprocessor._non_blocking = not waits
        began = time.perf_counter()
        for _ in range(count):
            self.step(reads)
        if self.device == "cuda":
            torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - began) / count

    def speed(self) -> dict[str, Any]:
        """Measure clips a second, and GiB."""
        rate = 1e3 * self.batch / statistics.median(self.run(self.rounds) for _ in range(3))
        is_gpu = self.device == "cuda"
        gib = round(torch.cuda.max_memory_allocated() / 2**30, 1) if is_gpu else None
        return {"clips_s": round(rate, 1), "gib": gib}


def steps(bench: Bench, batch: int) -> Iterator[dict[str, Any]]:
    """Measure steps by layout and precision."""
    for precision, layout in product(PRECISIONS, LAYOUTS):
        names = {"precision": precision, "layout": layout, "batch": batch}
        if not bench.small:
            torch.cuda.reset_peak_memory_stats()
        yield bench.row(names, lambda p=precision, n=layout: Steps(bench, n, p, batch).speed())


def loading(bench: Bench) -> Iterator[dict[str, Any]]:
    """Measure how long trainings wait for their clips, by number of workers and source."""
    options = SMALL_X3D if bench.small else {}
    for workers, source in product((1,) if bench.small else (4, 8, 16), SOURCES):
        job = {"workers": workers, "steps": 6 * workers, "skipped": 2 * workers, "options": options}
        names, kitchen = {"source": source, "workers": workers}, bench.kitchens[source]
        yield bench.row(names, lambda k=kitchen, j=job: train_apart(k, bench.small, **j))


def reading(bench: Bench) -> Iterator[dict[str, Any]]:
    """Measure what it costs that each step reads its loss and metrics; the loops take turns."""
    made, found = Steps(bench, "plain", "bf16", bench.batch), {name: [] for name in LOOPS}
    for _, (name, how) in product(range(5), LOOPS.items()):
        found[name].append(made.run(made.rounds, *how))
    ms = {name: statistics.median(times) for name, times in found.items()}
    first = ms[next(iter(LOOPS))]
    for name in LOOPS:
        less = f"{100 * (1 - ms[name] / first):.1f}"
        yield {"a step": name, "ms": round(ms[name], 2), "less, %": less}


def ends(bench: Bench) -> Iterator[dict[str, Any]]:
    """Kill a training and resume it; train in two processes, if there are two GPUs."""
    # It saves after each step.
    each_step = {"default_hooks.checkpoint.seconds": 1e-3}
    chosen = {"epochs": 1, "batch_size": bench.batch, "options": each_step}
    first = bench.train(**chosen)
    while first.poll() is None and not list(bench.kitchen.rglob("inside_epoch.pth")):
        time.sleep(0.02)
    if first.poll() is None:
        os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    second = bench.train(**chosen)
    resumed = "going on from" in second.communicate()[0] and first.returncode == -signal.SIGKILL
    yield {"what": "killed inside an epoch, goes on", "works": resumed and not second.returncode}
    if bench.small or torch.cuda.device_count() > 1:
        both = bench.train(epochs=1, gpus=2, seed=1)
        both.communicate()
        how = "gloo" if bench.small else "NCCL"
        yield {"what": f"two processes over {how}", "works": not both.returncode}


# Each question has a table, with these columns.
TABLES: dict[str, tuple[str, Callable[[Bench], Iterator[dict[str, Any]]], tuple[str, ...]]] = {
    "steps": (
        "How fast is a step of X3D-S?",
        lambda bench: steps(bench, bench.batch),
        ("precision", "layout", "batch", "clips_s", "gib"),
    ),
    "loading": (
        "Which share of a training waits for clips?",
        loading,
        ("source", "workers", "clips_s", "waiting", "gib"),
    ),
    "reading": (
        "Does reading the metrics of each step cost more than 3 % (bf16, plain)?",
        reading,
        ("a step", "ms", "less, %"),
    ),
    "memory": (
        "What do other batches take?",
        lambda bench: (row for b in bench.others for row in steps(bench, b)),
        ("precision", "layout", "batch", "clips_s", "gib"),
    ),
    "ends": ("Does it go on, and on two GPUs?", ends, ("what", "works")),
    "zoo": (
        "How does the zoo train, beside MMAction2?",
        lambda bench: zoo(bench.kitchen, bench.small),
        ("model", "way", "batch", "clips_s", "gib", "waiting"),
    ),
}


def train_here(settings: dict[str, Any], at: str) -> None:
    """Train as a rule does, in this process."""
    log_to_stdout()
    lists = {"results": f"{at}/results", "video_root": at, "num_verbs": 97, "num_nouns": 300}
    train(TrainSettings.model_validate(settings), model_path=f"{at}/results/model.pth", **lists)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="in miniature, on the CPU")
    parser.add_argument("--zoo", action="store_true", help="each default of the zoo instead")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train_here(**json.loads(options.train))
        return 0
    if not options.small and not torch.cuda.is_available():
        print("error: torch sees no GPU here; --small runs in miniature on a CPU", file=sys.stderr)
        return 1
    init_default_scope("mmaction")
    torch.backends.cudnn.benchmark = True
    device = "CPU, in miniature" if options.small else torch.cuda.get_device_name()
    found: dict[str, Any] = {"device": device, "torch": torch.__version__, "cores": usable_cores()}
    print(f"{device}, torch {torch.__version__}, {usable_cores()} cores", flush=True)
    asked = TABLES if options.small else {n for n in TABLES if (n == "zoo") == options.zoo}
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(options.small, Path(name))
        for table in asked:
            question, measure, columns = TABLES[table]
            found[table] = [] if bench.is_over() and not options.zoo else list(measure(bench))
            rows = ({columns[-1]: row.get("why_not"), **row} for row in found[table])
            cells = [[row.get(column) for column in columns] for row in rows]
            head = " | ".join(columns).replace("clips_s", "clips/s").replace("gib", "GiB")
            print(f"\n{question}\n\n{markdown(head, cells)}", flush=True)
    print(f"\n{json.dumps(found | {'seconds': round(time.monotonic() - bench.began)})}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
