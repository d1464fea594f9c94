"""Let rare events of a cluster happen to the real DAG on two real Slurm clusters.

Needs root and Slurm's daemons (.ci/run names the packages). Prints for each event whether the run
ended well, how many jobs it took, for how many targets two jobs ran at once (a second writer), and
whether the screen named the cause. `python benchmarks/slurm_nights.py
[EVENT ...]` plays some of them.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.archive import make_archive  # noqa: E402
from support.slurm_calls import Call, put_before  # noqa: E402
from support.slurm_rig import VSC, Rig, running  # noqa: E402

SCANS = ("results/scan/P01.tsv", "results/scan/P02.tsv")
TARGET = "results/clean/pairs.tsv"


def slow_sacct(rig: Rig, folder: Path) -> tuple[Call, str]:
    """sacct takes 30 s for each answer."""
    env = put_before("sacct", 'sleep 30; exec /usr/bin/sacct "$@"', folder / "bin")
    with Call(rig, folder, TARGET, env=env) as call:
        call.end()
    return call, "5 jobs done"


def drain(rig: Rig, folder: Path) -> tuple[Call, str]:
    """Both nodes are drained while the scans run, and come back a minute later."""
    nodes = "NodeName=m28c27n[1-2]"
    shorter = {"SHORTER": "screen.LINE_SECONDS=5"}
    with Call(rig, folder, TARGET, env=shorter) as call:
        call.until("has been submitted with SLURM jobid", times=4)
        rig.at("wice", "scontrol", "update", nodes, "State=DRAIN", "Reason=benchmark")
        call.until("its nodes are down, reserved or closed now")
        time.sleep(30)
        rig.at("wice", "scontrol", "update", nodes, "State=RESUME")
        call.end()
    return call, "its nodes are down, reserved or closed now"


def clock(rig: Rig, folder: Path) -> tuple[Call, str]:
    """A node's clock is an hour off: what its jobs write is an hour old."""
    back = f"trap 'find {folder}/results -newermt -2min -exec touch -d -1hour {{}} +' EXIT"
    with Call(rig, folder, TARGET, "--precommand", back) as call:
        call.end()
    return call, "5 jobs done"


def late_names(rig: Rig, folder: Path) -> tuple[Call, str]:
    """The login node sees a scan's files ten seconds after its job has ended, as on NFS."""
    scan = folder / "results/scan"
    names = f"{scan}/P01.tsv {scan}/P01.index.npz"
    script = f"""case "$*" in *_P01*) (until [ -e {scan}/P01.tsv ]; do sleep .1; done
        mkdir -p {folder}/late; mv {names} {folder}/late; sleep 10; mv {folder}/late/* {scan}
        ) </dev/null >/dev/null 2>&1 & ;; esac; exec /usr/bin/sbatch "$@" """
    env = put_before("sbatch", script, folder / "bin")
    with Call(rig, folder, *SCANS, "--latency-wait", "60", env=env) as call:
        call.end()
    return call, "2 jobs done"


def preemption(rig: Rig, folder: Path) -> tuple[Call, str]:
    """A job of a better QOS takes the nodes of the scans."""
    for words in (
        ("add", "qos", "scavenger"),
        ("add", "qos", "urgent"),
        ("modify", "qos", "urgent", "set", "preempt=scavenger", "priority=1000"),
        ("modify", "user", "root", "set", "qos+=scavenger,urgent"),
    ):
        rig.login("sacctmgr", "-i", *words)
    conf = rig.folder / "wice/etc/slurm.conf"
    conf.write_text(f"{conf.read_text()}\nPreemptType=preempt/qos\nPreemptMode=CANCEL\n")
    rig.end("slurmctld-wice")
    rig.bring("slurmctld-wice")
    with Call(rig, folder, *SCANS, "--set-resources", "scan:qos='scavenger'") as call:
        call.until("has been submitted with SLURM jobid", times=2)
        rig.wait(lambda: all(rig.state(job) == "RUNNING" for job in call.submitted()), "scans")
        urgent = rig.submit("--qos=urgent", "--nodes=2", "--exclusive")
        call.until("ended by PREEMPTED")
        rig.login("scancel", "-M", "wice", urgent)
        call.end()
    return call, "ended by PREEMPTED"


EVENTS = (slow_sacct, drain, clock, late_names, preemption)


def second_writers(jobs: list[dict]) -> int:
    """Count the targets for which two jobs ran at once."""
    by_target: dict[str, list[tuple[datetime, datetime]]] = {}
    for job in jobs:
        if job["Start"] not in ("Unknown", "None"):
            times = [datetime.fromisoformat(job[key]) for key in ("Start", "End")]
            by_target.setdefault(job["Comment"], []).append((times[0], times[1]))
    pairs = [zip(sorted(spans), sorted(spans)[1:], strict=False) for spans in by_target.values()]
    return sum(any(one[1] > other[0] for one, other in pair) for pair in pairs)


def play(event: Callable[[Rig, Path], tuple[Call, str]], rig: Rig, folder: Path) -> dict:
    """Let an event happen to a new archive, and return its figures."""
    make_archive(folder)
    started = time.monotonic()
    call, cause = event(rig, folder)
    jobs = rig.jobs(fields="Comment,State,Start,End,SubmitLine")
    own = [job for job in jobs if f"{folder}/" in job["SubmitLine"]]
    return {
        "event": event.__name__,
        "ended_well": call.process.returncode == 0,
        "jobs": len(own),
        "states": dict(Counter(job["State"].split()[0] for job in own)),
        "second_writers": second_writers(own),
        "cause_on_screen": cause in call.screen(),
        "seconds": round(time.monotonic() - started),
    }


def main() -> None:
    """Let the named events happen, or all."""
    base = Path(tempfile.mkdtemp(prefix="slurm-nights-"))
    with running(base / "rig", VSC) as rig:
        for event in EVENTS:
            if event.__name__ in (sys.argv[1:] or [event.__name__]):
                rig.clear()
                (base / event.__name__).mkdir()
                print(json.dumps(play(event, rig, base / event.__name__)), flush=True)


if __name__ == "__main__":
    main()
