"""Leaves one check of the scan out at a time: what does it find that no other finds?

    python benchmarks/ablation.py [--coding CABAC] [--seeds 1] [--jobs 2] [--log trials.jsonl]

Files of four codings (`damage_files`) are damaged in the ways of `damage_ways`, and each is scanned
with all checks and without each one. What is missed and what is marked is counted as in
`benchmarks/damage.py`. With --log, each finished trial is a line of a file, and a later call goes
on from there. Printed is a table for each coding, with a row a check:

alone      harmed pictures that are missed without it, and not with it; in so many files
its price  sound pictures of damaged files that are marked with it, and not without it

The last line printed is one JSON object.
"""

import argparse
import contextlib
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import damage as bench
import numpy as np
from damage_files import coding_of, originals
from damage_ways import FLIPS, ONCE, WAYS

from epic100.base.errors import EpicError
from epic100.scan import damage, h264, h264_stream, worker
from epic100.scan.clock import clock_finding
from epic100.video.scan_table import DAMAGED, OK

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.scanned import inspect

SECONDS, MEMORY = 120, 4 << 30  # A damaged file may make a decoder hang, or take all memory.
CODINGS = ("CABAC", "CABAC, interlaced", "CAVLC", "HEVC")
Patch = Any


def _nothing(*arguments: object, **named: object) -> None:
    """Stand in place of a check."""


def _whole_groups(packets: list[damage.Packet], frames: int) -> np.ndarray:
    """Mark each group with a fault as a whole, in place of `damage.spread`."""
    marks, group, is_bad = np.zeros(frames, bool), list[damage.Packet](), False
    for packet in [*packets, None]:
        if packet is None or packet.is_key:
            marks[[p.frame for p in group if p.frame is not None]] |= is_bad
            group, is_bad = [], False
        if packet is not None:
            group.append(packet)
            is_bad = is_bad or bool(packet.fault)
    return marks


def _checks() -> dict[str, list[Patch]]:
    """What is put in place of each check, by its name."""
    put = mock.patch.object
    return {
        "all checks": [],
        "taller picture": [put(h264_stream, "MACROBLOCKS_BELOW", 0)],
        "numbering": [put(h264.Numbering, "follow", lambda *a: (True, None))],
        "gaps and shared times": [put(damage, "blame_times", _nothing)],
        "repeats": [put(damage, "blame_repeats", _nothing)],
        "other sizes": [put(damage, "blame_sizes", _nothing)],
        "unused data": [put(worker, "_has_unused_data", lambda *a: False)],
        # It marks nothing, so `trial` leaves it out itself.
        "the look at the clock": [],
        "exact spread": [put(damage, "spread", _whole_groups)],
    }


def trial(way: str, original: Path, seed: int, place: Path) -> dict[str, Any] | None:
    """Damage a copy and scan it without each check; None where the way does not fit the file."""
    rng = np.random.default_rng([seed, len(way), *way.encode()])
    fps, length = bench._rate_and_length(original)
    path = place / "P01_01.MP4"
    shutil.copyfile(original, path)
    try:
        (WAYS | FLIPS)[way](path, rng)
    except (EpicError, ValueError):
        return None
    counts, compared = dict[str, dict[str, int]](), dict[object, tuple]()
    for name, patches in _checks().items():
        with contextlib.ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch)
            row, index = inspect(path, "P01_01")
        if row.status not in (OK, DAMAGED) or index is None:
            counts[name] = {"missed": 0, "sound": 0, "held": 0}
            continue
        key = (row.status, tuple(row.damaged), row.pictures, index.keys.tobytes(), index.direct)
        if key not in compared:
            compared[key] = bench.compare(original, path, row, index, way)
        harmed, missed, _, sound = compared[key]
        held = bool(clock_finding(row, index, length, fps))
        if name == "the look at the clock":
            held = False
        counts[name] = {"missed": 0 if held else missed, "sound": sound, "held": int(held)}
        counts[name]["harmed"] = harmed
    return counts


def _work(connection: Any, *arguments: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        connection.send(trial(*arguments, Path(folder)))


def guarded_trial(way: str, original: Path, seed: int) -> dict[str, Any] | None:
    """Make a trial in a process of its own; None if it crashes or hangs, too."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=_work, args=(theirs, way, original, seed))
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(SECONDS) else None
    except EOFError:
        return None
    finally:
        process.kill()
        process.join()


def _known(log: Path | None) -> Iterator[dict[str, Any]]:
    if log is not None and log.exists():
        yield from map(json.loads, log.read_text().splitlines())


def main() -> None:
    """Run all trials and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coding", default="", help="codings whose name holds this")
    parser.add_argument("--seeds", type=int, default=1, help="damages of each way a file")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--log", type=Path, help="a file of finished trials, to go on from")
    options = parser.parse_args()
    trials, started = list(_known(options.log)), time.monotonic()
    done = {tuple(one["id"]) for one in trials}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        files = originals(Path(folder), [], options.coding)
        files = [path for path in files if coding_of(path.name) in CODINGS]
        waiting = {
            (way, path.name, seed): pool.submit(guarded_trial, way, path, seed)
            for seed in range(options.seeds)
            for path in files
            for way in WAYS | FLIPS
            if way not in ONCE and not way.startswith("undamaged")
            if (way, path.name, seed) not in done
        }
        for name, future in waiting.items():
            one = {"id": name, "counts": future.result()}
            trials.append(one)
            if options.log:
                with options.log.open("a") as log:
                    log.write(json.dumps(one) + "\n")
    report(trials, time.monotonic() - started)


def report(trials: list[dict[str, Any]], seconds: float) -> None:
    """Print a table for each coding, and the JSON object as the last line."""
    tables = dict[str, dict[str, dict[str, int]]]()
    whole = [one for one in trials if one["counts"]]
    print(f"{time.strftime('%Y-%m-%d')}, {len(whole)} files, {seconds:.0f} s")
    for coding in CODINGS:
        own = [one["counts"] for one in whole if coding_of(one["id"][1]) == coding]
        if not own:
            continue
        print(f"\n| {coding}: {len(own)} files | missed | alone | in files | its price |")
        print("|---|---|---|---|---|")
        tables[coding] = {}
        for name in _checks():
            pairs = [(counts[name], counts["all checks"]) for counts in own]
            alone = [max(0, without["missed"] - all_["missed"]) for without, all_ in pairs]
            row = {
                "missed": sum(without["missed"] for without, _ in pairs),
                "alone": sum(alone),
                "files": sum(map(bool, alone)),
                "price": sum(all_["sound"] - without["sound"] for without, all_ in pairs),
            }
            tables[coding][name] = row
            print(f"| {' | '.join([name, *map(str, row.values())])} |")
    print(json.dumps({"date": time.strftime("%Y-%m-%d"), "files": len(whole), "tables": tables}))


if __name__ == "__main__":
    main()
