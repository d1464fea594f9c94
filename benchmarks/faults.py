"""Lets system calls of the rules fail one at a time, and looks what becomes of their outputs.

    python benchmarks/faults.py [--every 1] [--only scan] [--jobs 1]

A shim (faults_shim.c, built with gcc) is preloaded into the rule's process and all that it starts.
It counts opens, reads, writes, fsyncs, renames and closes of files below the run's folder, inputs
included, and lets one of them fail with EIO or ENOSPC, or kills the process there. Then:

clear line    the rule ended with one line `error: ...` as its last
traceback     it ended with another error
went on       it succeeded, its outputs the same as without a fault
WRONG         it succeeded with other outputs, or the same command does not make the right ones now
killed        it was killed, and the same command made the right outputs

After each fault the same command runs again without one; its outputs must be the same bytes as
ever, and no temporary file may be left. The last line printed is one JSON object.
"""

import argparse
import collections
import errno
import itertools
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from epic100.base.log import rule_log
from epic100.minikitchen import write_annotations, write_video
from epic100.proxy import ProxySettings, make_proxies
from epic100.scan import scan_participant
from epic100.segments.annotations import index_segments, load_annotations
from epic100.segments.cleaning import clean
from epic100.segments.segment_list import write_segments
from epic100.video.sheet import Video

SHIM = Path(__file__).with_name("faults_shim.c")
VIDEOS = (
    Video("P01_01", "P01", "train", 50.0, 6.0),
    Video("P01_02", "P01", "val", 50.0, 6.0),
)
CSVS = {"train": "EPIC_100_train.csv", "val": "EPIC_100_validation.csv"}
CLASSES = {"verbs": 97, "nouns": 300}
FAULTS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "killed": 0}
OUTCOMES = ("clear line", "traceback", "went on", "killed", "WRONG")


def annotate(folder: Path) -> None:
    """As the rule: official CSV -> segment list."""
    by_id = {video.video_id: video for video in VIDEOS}
    for split, name in CSVS.items():
        path = folder / "annotations" / name
        table = load_annotations(str(path), by_id, split=split, classes=CLASSES)
        write_segments(index_segments(table, by_id), folder / f"results/segments/{split}.txt")


def scan(folder: Path) -> None:
    """As the rule: videos -> scan table and frame indexes."""
    table = folder / "results/scan/P01.tsv"
    scan_participant(VIDEOS, folder / "videos", table, table.with_suffix(".index.npz"))


def clean_lists(folder: Path) -> None:
    """As the rule clean."""
    results = folder / "results"
    clean(
        {video.video_id: video for video in VIDEOS},
        annotations={split: str(folder / "annotations" / name) for split, name in CSVS.items()},
        segments={split: str(results / f"segments/{split}.txt") for split in CSVS},
        scans=[str(results / "scan/P01.tsv")],
        lists={split: str(results / f"clean/{split}.txt") for split in CSVS},
        pairs=str(results / "clean/pairs.tsv"),
        dropped=str(results / "clean/dropped.tsv"),
        salvage=str(results / "clean/salvage.tsv"),
        policy="segment",
        classes=CLASSES,
    )


def proxy(folder: Path) -> None:
    """As the rule: videos -> small copies and their indexes."""
    results = folder / "results"
    make_proxies(
        VIDEOS,
        folder / "videos",
        results / "proxies",
        scan_table=results / "scan/P01.tsv",
        scan_index=results / "scan/P01.index.npz",
        table=results / "proxies/P01.tsv",
        index=results / "proxies/P01.index.npz",
        settings=ProxySettings(height=64),
    )


RULES = {"annotate": annotate, "scan": scan, "clean": clean_lists, "proxy": proxy}
# x264's assembly: copies of one video may differ in bytes. Of them and their table the names, the
# states and the pictures' sizes are compared, and whether one is a link.
VARYING = ("proxies",)


@dataclass
class Fault:
    """One fault and what became of it."""

    rule: str
    call: int
    kind: str
    outcome: str
    words: str


def build_shim(folder: Path) -> Path:
    """Compile the shim. Raises FileNotFoundError where there is no gcc."""
    out = folder / "faults_shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", out, SHIM, "-ldl"], check=True)
    return out


def run(rule: str, folder: Path, shim: Path, at: int = 0, number: int = 0):
    """Run a rule with a fault at call `at`; (exit code, last line, calls, faults done)."""
    with tempfile.NamedTemporaryFile(dir=shim.parent) as state:
        state.write(bytes(16))
        state.flush()
        env = os.environ | {
            "LD_PRELOAD": str(shim), "FAULT_STATE": state.name, "FAULT_BELOW": str(folder),
            "FAULT_AT": str(at), "FAULT_ERRNO": str(number), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        command = [sys.executable, __file__, "--rule", rule, str(folder)]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        calls, faults = struct.unpack("2q", Path(state.name).read_bytes())
    lines = done.stderr.strip().splitlines() or [""]
    return done.returncode, lines[-1], calls, faults


def outputs(folder: Path, rule: str) -> dict[str, bytes]:
    """What a rule made, by name; of copies only what is the same every time."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        name = str(path.relative_to(folder / "results"))
        if not path.is_file() or "cache" in path.parts or path.suffix == ".log":
            continue
        if name.startswith(VARYING):
            columns = [line.split("\t")[:6] for line in path.read_text().splitlines()] \
                if path.suffix == ".tsv" else path.is_symlink()  # fmt: skip
            found[name] = repr(columns).encode()
        else:
            found[name] = path.read_bytes()
    return found


def leftovers(folder: Path) -> list[Path]:
    """Temporary files below the results."""
    return [path for path in (folder / "results").rglob(".*") if ".tmp" in path.name]


def prepare(folder: Path, rule: str, shim: Path) -> None:
    """A run's folder in which everything before `rule` is made."""
    write_annotations(VIDEOS, folder / "annotations", seed=1)
    for video in VIDEOS:
        write_video(video, video.path(folder / "videos"), seed=1)
    for before in itertools.takewhile(lambda name: name != rule, RULES):
        code, words, *_ = run(before, folder, shim)
        if code:
            raise RuntimeError(f"{before} fails without a fault: {words}")


def inject(rule: str, model: Path, shim: Path, expected: dict, at: int, kind: str) -> Fault:
    """One fault in a copy of the folder `model`, and the same command again."""
    with tempfile.TemporaryDirectory(dir=shim.parent) as name:
        folder = Path(name) / "run"
        shutil.copytree(model, folder, symlinks=True)
        code, words, _, faults = run(rule, folder, shim, at, FAULTS[kind])
        made = outputs(folder, rule)
        again, later, *_ = run(rule, folder, shim)
        right = not again and outputs(folder, rule) == expected and not leftovers(folder)
    if not right:
        outcome, words = "WRONG", f"{words} / {later}"
    elif code == 0:
        outcome = "went on" if made == expected else "WRONG"
    elif kind == "killed" and (code == -signal.SIGKILL or "ended from outside" in words):
        outcome = "killed"
    else:
        outcome = "clear line" if words.startswith("error: ") else "traceback"
    return Fault(rule, at, kind if faults else f"{kind} (not reached)", outcome, words[:300])


def faults_of(
    rule: str, folder: Path, shim: Path, every: int, jobs: int, most: int | None = None
) -> Iterator[Fault]:
    """Each `every`th call of a rule, with each kind of fault; `most` of them, spread evenly."""
    model = folder / f"model-{rule}"
    prepare(model, rule, shim)
    whole = folder / f"whole-{rule}"
    shutil.copytree(model, whole, symlinks=True)
    code, words, calls, _ = run(rule, whole, shim)
    if code:
        raise RuntimeError(f"{rule} fails without a fault: {words}")
    expected = outputs(whole, rule)
    # Paths in outputs are of the run's own folder; every run has one of the same name.
    places = [(at, kind) for at in range(1, calls + 1, every) for kind in FAULTS]
    if most:
        places = places[:: max(len(places) // most, 1)][:most]
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda place: inject(rule, model, shim, expected, *place), places)


def main() -> None:
    """Inject the faults and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="only each Nth call")
    parser.add_argument("--only", choices=RULES, help="one rule")
    parser.add_argument("--most", type=int, help="faults a rule, spread over its calls")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print each that is no clear line")
    parser.add_argument("--rule", choices=RULES, help=argparse.SUPPRESS)
    parser.add_argument("folder", nargs="?", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rule:
        with rule_log(options.folder / f"results/logs/{options.rule}.log"):
            RULES[options.rule](options.folder)
        return
    started = time.monotonic()
    table: dict[str, collections.Counter] = {}
    with tempfile.TemporaryDirectory() as folder:
        shim = build_shim(Path(folder))
        for rule in [options.only] if options.only else RULES:
            table[rule] = collections.Counter()
            for fault in faults_of(
                rule, Path(folder), shim, options.every, options.jobs, options.most
            ):
                table[rule][fault.outcome] += 1
                if options.show and fault.outcome in ("WRONG", "traceback"):
                    print(fault, flush=True)
            print(rule, dict(table[rule]), flush=True)
    total = sum(sum(counts.values()) for counts in table.values())
    print(f"{total} faults, {time.monotonic() - started:.0f} s")
    print(json.dumps({rule: {name: counts[name] for name in OUTCOMES}
                      for rule, counts in table.items()}))  # fmt: skip


if __name__ == "__main__":
    main()
