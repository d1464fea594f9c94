"""Whether the hooks of a training get slower as it gets longer.

    python benchmarks/long_run.py       # three minutes on an idle core, no data

A real small training runs twice: with this workflow's hooks, and with MMEngine's limit of a
million values for each figure of its log. Half-way the log gets as many values as after 200,000
iterations. What counts is the ratio of the hooks' time per iteration after and before it.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from gpu import Bench
from gpu_kitchen import SOURCES, make_kitchens
from mmengine.registry import init_default_scope

import epic100.mmaction  # noqa: F401
from epic100.training import report
from epic100.training.loop import QuietRunner
from epic100.training.plan import Placement, plan_run
from epic100.training.recipe import build_config, changed
from epic100.training.run import open_run_dir, run_stamp

PRELOADED = 200_000
STEPS = 40  # before and after


class TimedRunner(QuietRunner):
    """Times the hooks after each iteration, and makes the log long half-way."""

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks; note how long they took."""
        began = perf_counter()
        super().call_hook(fn_name, **kwargs)
        if fn_name != "after_train_iter":
            return
        self.times = [*getattr(self, "times", []), perf_counter() - began]
        if len(self.times) == STEPS:
            for buffer in self.message_hub.log_scalars.values():
                buffer._log_history = np.ones(PRELOADED)
                buffer._count_history = np.ones(PRELOADED)


@contextmanager
def values_kept(number: int) -> Iterator[None]:
    """Let the log keep so many values of each figure."""
    before, report.KEPT = report.KEPT, number
    try:
        yield
    finally:
        report.KEPT = before


def measure(kitchen: Path, folder: Path) -> tuple[float, float]:
    """The hooks' median seconds per iteration, at the start and in a long run."""
    bench = Bench(small=True)
    settings = bench.settings(epochs=1, batch_size=2, workers=0)
    config = build_config(settings, str(kitchen / "results"), str(kitchen))
    clean = Path(config.train_dataloader.dataset.ann_file)
    lines = clean.read_text(encoding="utf-8").splitlines(keepends=True)
    clean.write_text("".join(lines[: 4 * STEPS]), encoding="utf-8")  # an epoch of 2 x STEPS batches
    work_dir = open_run_dir(folder, run_stamp(config))
    plan = plan_run(config, settings, Placement("cpu", 1), work_dir=work_dir)
    runner = TimedRunner.from_cfg(changed(plan.config, {"train_cfg.val_interval": 10**6}))
    runner.train()
    times = np.array(runner.times)
    # The first steps build what later ones reuse; the first long one cuts the log.
    return float(np.median(times[5:STEPS])), float(np.median(times[STEPS + 1 : 2 * STEPS]))


def main() -> None:
    """Measure and print."""
    init_default_scope("mmaction")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = dict(list(SOURCES.items())[:1])
        kitchen = next(iter(make_kitchens(folder, source, seconds=10).values()))
        for words, kept in (("this workflow", report.KEPT), ("MMEngine's limit", 10**6)):
            with values_kept(kept):
                first, long = measure(kitchen, folder / f"run{kept}")
            print(
                f"{words}: {1000 * first:.2f} ms of hooks an iteration at the start, "
                f"{1000 * long:.2f} ms after {PRELOADED} iterations: {long / first:.2f} x"
            )


if __name__ == "__main__":
    main()
