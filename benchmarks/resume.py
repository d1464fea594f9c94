"""Trainings that are killed or stopped, or lose their checkpoints: do they end in the same bits?

    python benchmarks/resume.py [kills] [stops] [losses] [overhead]

Films a small kitchen and trains a shallow X3D on it at 32 pixels, in processes of their own, some
five minutes on two cores. Prints tables in Markdown; the last line is one JSON object.
"""

import json
import os
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from short_trainings import LOADERS, METER, OPTIONS, Meter, Run, film, processes

from epic100.settings import TrainSettings

ROOT = Path(__file__).resolve().parent.parent


def kill_at(run: Run, seconds: float) -> str | None:
    """SIGKILL after so long; where that was, or None where the run was over before."""
    process = run.start()
    process.join(seconds)
    if process.exitcode is not None:
        return None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return f"{seconds:.2f} s, iteration {run.iteration()}"


def kill_in_a_save(run: Run, save: int) -> str | None:
    """SIGKILL while the so-manieth save writes; None where it was too late for that."""
    process = run.start()
    seen, there = 0, False
    while process.exitcode is None:
        found = list(run.results.glob("work_dirs/*/*/.iter_*.tmp.pth"))
        seen += bool(found) and not there
        there = bool(found)
        if there and seen == save:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.join()
    left = list(run.results.glob("work_dirs/*/*/.iter_*.tmp.pth"))
    return f"save {save}: {left[0].stat().st_size} B written" if left else None


def kills(lab: Path, straight: str, seconds: float, rng: random.Random) -> list[tuple]:
    """Ten kills, three of them inside a save: (loader, moment, resumed from, the same?)."""
    rows = []
    while len(rows) < 10:
        loader = list(LOADERS)[len(rows) % 3]
        run = Run(lab, f"kill{len(rows)}_{time.monotonic_ns()}", loader)
        in_save = len(rows) >= 7
        moment = (
            kill_in_a_save(run, rng.randint(1, 6))
            if in_save
            else kill_at(run, rng.uniform(0.2, seconds))
        )
        if moment is not None:
            end = run.finish()
            rows.append((loader, moment, run.resumed_from(), end == straight))
    return rows


def stops(lab: Path, straight: str, rng: random.Random) -> list[tuple]:
    """SIGUSR1 to a process or its group: (loader, to, iterations, seconds until gone, same?)."""
    rows = []
    for number in range(6):
        loader, group = list(LOADERS)[number % 3], number >= 3
        run = Run(lab, f"stop{number}", loader)
        process = run.start()
        while run.iteration() < 1 + 3 * number and process.exitcode is None:
            time.sleep(0.01)
        # The signal may come in an iteration, a save or a validation.
        time.sleep(rng.uniform(0, 0.2))
        running, sent = run.iteration(), time.perf_counter()
        (os.killpg if group else os.kill)(process.pid, signal.SIGUSR1)
        process.join()
        gone = time.perf_counter() - sent
        words = run.said().rsplit("error: SIGUSR1 came", 1)
        assert process.exitcode == 1 and len(words) == 2, run.said()
        saved = int(re.search(r"iter_(\d+).pth", words[1])[1])
        same = run.finish() == straight
        # It is 1 if the iteration that ran was saved, and more if others began before it stopped.
        rows.append((loader, "group" if group else "process", saved - running + 1, gone, same))
    return rows


def losses(lab: Path, straight: str, seconds: float) -> list[tuple]:
    """The newest checkpoint damaged or gone: (what, resumed from the one before?, the same?)."""
    base = Run(lab, "loss", "no workers")
    moment = None
    while moment is None or len(list(base.work_dir().glob("iter_*.pth"))) < 2:
        shutil.rmtree(base.results / "work_dirs", ignore_errors=True)
        moment = kill_at(base, seconds * 0.75)
    before, newest = sorted(base.work_dir().glob("iter_*.pth"), key=lambda p: int(p.stem[5:]))
    rows = []
    for what in ("truncated", "empty", "missing", "text"):
        run = Run(lab, f"loss_{what}", "no workers")
        shutil.copytree(base.results / "work_dirs", run.results / "work_dirs")
        victim = run.work_dir() / newest.name
        if what == "truncated":
            victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
        elif what == "missing":
            victim.unlink()
        else:
            victim.write_text("" if what == "empty" else "nothing that loads\n")
        end = run.finish()
        rows.append((what, run.resumed_from() == int(before.stem[5:]), end == straight))
    return rows


def overhead(lab: Path) -> dict:
    """CPU milliseconds an iteration of MMEngine's bare loop and of ours, taken in turn: medians of
    one thread's own time, which other work on the machine moves little. Saves are counted apart, in
    milliseconds of the clock."""
    here, there = processes.Pipe(duplex=False)
    process = processes.Process(target=_time_loops, args=(lab, there))
    process.start()
    # If the process fails, this one must end too, and not wait for ever.
    there.close()
    found = here.recv()
    process.join()
    return found


def _time_loops(lab: Path, pipe) -> None:
    import epic100.mmaction  # noqa: F401  (registers models, datasets and hooks)

    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
    torch.set_num_threads(1)
    took: dict[str, list[float]] = {"bare": [], "ours": []}
    saves: list[float] = []
    for turn in range(8):
        kind = ("bare", "ours", "ours", "bare")[turn % 4]
        took[kind] += _one_loop(lab, kind, turn, saves)
    bare, ours = (statistics.median(took[kind]) * 1000 for kind in ("bare", "ours"))
    pipe.send({"bare_ms": bare, "ours_ms": ours, "save_ms": statistics.median(saves) * 1000})


def _one_loop(lab: Path, kind: str, turn: int, saves: list[float]) -> list[float]:
    """CPU seconds of each iteration of six epochs, of which the first warms up and is left out."""
    from mmengine.registry import init_default_scope
    from mmengine.runner import Runner

    from epic100.training.recipe import build_config

    os.environ[METER] = str(lab / "meter")
    Path(os.environ[METER]).write_bytes(bytes(8))
    init_default_scope("mmaction")
    settings = TrainSettings(
        config="config/x3d_demo.py",
        load_from=None,
        epochs=6,
        batch_size=2,
        options=OPTIONS,
        workers=0,
    )
    config = build_config(settings, str(lab / "results"), str(lab / "videos"))
    config.work_dir = str(lab / "loops" / str(turn))
    config.default_hooks.checkpoint.go_on = False
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    if kind == "bare":
        config.train_cfg.type = "EpochBasedTrainLoop"
        config.default_hooks = {"meter": {"type": "Meter"}, "checkpoint": None}
        config.custom_hooks = []
    runner = Runner.from_cfg(config)
    _keep_samples(runner.train_dataloader.dataset)
    if kind == "ours":
        _time_saves(runner.train_loop, saves)
    runner.train()
    (meter,) = (hook for hook in runner.hooks if isinstance(hook, Meter))
    batches = len(runner.train_dataloader)
    began = meter.began[batches:]
    return [after - before for before, after in zip(began, began[1:], strict=False)]


def _keep_samples(dataset) -> None:
    """Decode each segment once, so that loops are compared and not clips."""
    kept: dict[int, dict] = {}
    load = dataset.prepare_data

    def prepare(idx: int) -> dict:
        if idx not in kept:
            kept[idx] = load(idx)
        return kept[idx]

    dataset.prepare_data = prepare


def _time_saves(loop, saves: list[float]) -> None:
    save = loop.save

    def timed():
        started = time.perf_counter()
        path = save()
        saves.append(time.perf_counter() - started)
        return path

    loop.save = timed


def table(head: str, rows: list[tuple]) -> None:
    """Print rows as Markdown; `head`: column names, separated by |."""
    print(f"\n| {head} |\n|{'---|' * (head.count('|') + 1)}")
    for row in rows:
        cells = (f"{cell:.2f}" if isinstance(cell, float) else cell for cell in row)
        print(
            "|",
            " | ".join("yes" if c is True else "NO" if c is False else str(c) for c in cells),
            "|",
            flush=True,
        )


def straight_runs(lab: Path) -> tuple[str, float, bool]:
    """Digest of the weights, seconds, and whether all loaders give the same."""
    ends = []
    for loader in LOADERS:
        run = Run(lab, f"straight {loader}", loader)
        started = time.perf_counter()
        ends.append(run.finish())
        seconds = time.perf_counter() - started
    return ends[0], seconds, len(set(ends)) == 1


def main(wanted: list[str]) -> None:
    """The parts asked for, all by default, in a temporary folder."""
    rng = random.Random(0)
    found: dict = {"torch": torch.__version__}
    with tempfile.TemporaryDirectory() as folder:
        lab = Path(folder)
        film(lab)
        if wanted != ["overhead"]:
            straight, seconds, same = straight_runs(lab)
            found["same_with_every_loader"] = same
        if "kills" in wanted:
            rows = kills(lab, straight, seconds, rng)
            table("loader | kill -9 at | resumed from batch | same weights", rows)
            found["kills_same"] = sum(row[-1] for row in rows) / len(rows)
        if "stops" in wanted:
            rows = stops(lab, straight, rng)
            table("loader | SIGUSR1 to the | iterations | s until gone | same weights", rows)
            found["usr1_iterations_most"] = max(row[2] for row in rows)
            found["usr1_same"] = sum(row[-1] for row in rows) / len(rows)
        if "losses" in wanted:
            rows = losses(lab, straight, seconds)
            table("newest checkpoint | the one before taken | same weights", rows)
            found["newest_lost_same"] = sum(row[1] and row[2] for row in rows) / len(rows)
        if "overhead" in wanted:
            times = overhead(lab)
            head = "CPU ms an iteration, MMEngine's bare loop | ours | a save, ms"
            table(head, [tuple(times.values())])
            found["hooks_overhead"] = times["ours_ms"] / times["bare_ms"] - 1
    print(json.dumps(found))


if __name__ == "__main__":
    os.chdir(ROOT)
    main(sys.argv[1:] or ["kills", "stops", "losses", "overhead"])
