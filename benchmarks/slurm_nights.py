"""Let rare events of a cluster happen to the real DAG on two real Slurm clusters.

Needs root and Slurm's daemons (.ci/run names the packages). Prints a line for each night: whether
it ended as it must, with how many jobs, for how many targets two jobs ran at once (a second
writer), and whether the screen named the cause. `python benchmarks/slurm_nights.py [NIGHT ...]`
plays some of them.
"""

import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from epic100.minikitchen import write_annotations, write_video  # noqa: E402
from epic100.video.sheet import Video  # noqa: E402
from support.archive import configure, make_archive  # noqa: E402
from support.lab import write_sheet  # noqa: E402
from support.slurm_calls import Call, put_before  # noqa: E402
from support.slurm_rig import ACCOUNT, VSC, Rig, running  # noqa: E402

SCANS = ("results/scan/P01.tsv", "results/scan/P02.tsv")
TARGET = "results/clean/pairs.tsv"
ALL_DONE = "5 jobs done"
SUBMITTED = "has been submitted with SLURM jobid"
SMALL = {"config": "config/x3d_demo.py", "epochs": 1, "device": "cpu"}
# Sixteen errors of sbatch that say nothing about the request.
ERRORS = """Socket timed out on send/recv operation
Unable to contact slurm controller (connect failure)
Zero Bytes were transmitted or received
Slurm temporarily unable to accept job, sleeping and retrying
Batch job submission failed: Resource temporarily unavailable
Batch job submission failed: Unexpected message received
Batch job submission failed: Protocol authentication error
Batch job submission failed: Invalid authentication credential
Batch job submission failed: I/O error writing script/environment to file
Batch job submission failed: Unspecified error
Batch job submission failed: Transport endpoint is not connected
Batch job submission failed: Job violates accounting/QOS policy (AssocMaxSubmitJobLimit)
Problem talking to the database: Connection refused
slurm_persist_conn_open: failed to open persistent connection
Batch job submission failed: Communication connection failure
fatal: munge encode failed: Failed to access socket""".splitlines()


@dataclass
class Night:
    """How a night went: its last call, a text that the screen must have, and how it must end."""

    call: Call
    cause: str = ALL_DONE
    well: bool = True


def stand_in(folder: Path, **scripts: str) -> dict[str, str]:
    """Put shell scripts in place of Slurm's commands; return the variables that do so."""
    for name, script in scripts.items():
        env = put_before(name, script, folder / "bin")
    return env


def real(name: str) -> str:
    """The line of a script that runs Slurm's own command."""
    return f'exec /usr/bin/{name} "$@"'


def first_time(folder: Path, name: str, text: str, then: str = "exit 1") -> str:
    """A script of a command that answers with this text the first time that it submits."""
    return f"""case "$*" in *--test-only*) {real(name)} ;; esac
        if mkdir {folder}/once 2>/dev/null; then {text}; {then}; fi; {real(name)}"""


def play(rig: Rig, folder: Path, *arguments: str, env: dict | None = None, **how) -> Night:
    """Make a call, by default for the clean lists, and wait for its end."""
    with Call(rig, folder, *(arguments or [TARGET]), env=env) as call:
        call.end()
    return Night(call, **how)


def plain(rig: Rig, folder: Path) -> Night:
    """The whole DAG over both clusters."""
    configure(folder, train=SMALL, predict={"device": "cpu"})
    return play(rig, folder, "all", env={"EPIC100_SITE": "genius"}, cause="report:")


def two_hundred_scans(rig: Rig, folder: Path) -> Night:
    """200 participants with a video each: what a long run costs on the login node."""
    splits = ["val", *["train"] * 199]
    videos = [
        Video(f"P{number}_101", f"P{number}", split, 50.0, 8.0)
        for number, split in enumerate(splits, start=101)
    ]
    scans = [f"results/scan/{video.participant_id}.tsv" for video in videos]
    write_annotations(videos, folder / "csv", seed=2)
    write_sheet(videos, folder)
    write_video(videos[0], folder / "one.MP4", seed=2)
    for video in videos:
        video.path(folder / "archive").parent.mkdir(parents=True)
        os.link(folder / "one.MP4", video.path(folder / "archive"))
    with Call(rig, folder, *scans) as call:
        call.end(seconds=1800)
    return Night(call, cause="200 jobs done")


def scancel_of_one_job(rig: Rig, folder: Path) -> Night:
    """Somebody cancels a scan by hand."""
    with Call(rig, folder, TARGET) as call:
        call.until(SUBMITTED, times=4)
        (scan,) = re.findall(r"rule_scan/P01/(\d+)\.log", call.said())
        rig.login("scancel", "-M", "wice", scan)
        call.end()
    return Night(call, cause="CANCELLED")


def sacct_empty(rig: Rig, folder: Path) -> Night:
    """sacct and, for a minute, squeue too answer without any job."""
    squeue = f"""[ -e {folder}/began ] || date +%s > {folder}/began
        [ $(($(date +%s) - $(cat {folder}/began))) -gt 25 ] || exit 0; {real("squeue")}"""
    return play(rig, folder, env=stand_in(folder, sacct="exit 0", squeue=squeue))


def answers_are_nonsense(rig: Rig, folder: Path) -> Night:
    """squeue and sacct answer with words, empty lines and another version's columns."""
    nonsense = 'echo "Auftrag|Zustand"; echo; echo "sieben;LÄUFT;?"; echo "7 8 9"'
    env = stand_in(folder, sacct=nonsense, squeue=f"{nonsense}; sleep 2")
    with Call(rig, folder, TARGET, env=env) as call:
        call.until("squeue does not tell")
        time.sleep(20)
        (folder / "bin/squeue").write_text(f"#!/bin/bash\n{real('squeue')}\n")
        call.end()
    return Night(call, cause="squeue does not tell (it answers")


def sacct_takes_30_s(rig: Rig, folder: Path) -> Night:
    """Each answer of sacct takes 30 s."""
    return play(rig, folder, env=stand_in(folder, sacct=f"sleep 30; {real('sacct')}"))


def slurmdbd_away(rig: Rig, folder: Path) -> Night:
    """The database is away for 100 s: no command tells anything of another cluster."""
    with Call(rig, folder, TARGET) as call:
        call.until(SUBMITTED)
        rig.end("slurmdbd")
        time.sleep(100)
        rig.bring("slurmdbd")
        call.end()
    return Night(call, cause="squeue does not tell")


def controller_away(rig: Rig, folder: Path) -> Night:
    """The controller does not answer for 40 s, with jobs running and others to submit."""
    with Call(rig, folder, TARGET) as call:
        call.until(SUBMITTED)
        rig.end("slurmctld-wice")
        time.sleep(40)
        rig.bring("slurmctld-wice")
        call.end()
    return Night(call)


def sbatch_fails_once(rig: Rig, folder: Path) -> Night:
    """The first submission fails."""
    script = first_time(folder, "sbatch", 'echo "sbatch: error: Socket timed out" >&2')
    return play(rig, folder, env=stand_in(folder, sbatch=script), cause="cannot be submitted now")


def sbatch_hangs(rig: Rig, folder: Path) -> Night:
    """The first submission gets no answer."""
    script = first_time(folder, "sbatch", "exec sleep 600")
    env = stand_in(folder, sbatch=script) | {"SHORTER": "executor.SBATCH_SECONDS=5"}
    return play(rig, folder, env=env, cause="no answer in 5 s")


def sbatch_times_out_with_the_job_arrived(rig: Rig, folder: Path) -> Night:
    """Each answer is lost, and the job is in the queue."""
    lost = '/usr/bin/sbatch "$@" >/dev/null; echo "sbatch: error: Socket timed out" >&2; exit 1'
    script = f'case "$*" in *--test-only*) {real("sbatch")} ;; esac; {lost}'
    return play(rig, folder, env=stand_in(folder, sbatch=script), cause="Socket timed out")


def sixteen_errors(rig: Rig, folder: Path) -> Night:
    """The first sixteen submissions fail, each with another error."""
    (folder / "errors").mkdir()
    for number, error in enumerate(ERRORS):
        (folder / f"errors/{number:02}").write_text(f"sbatch: error: {error}\n")
    script = f"""case "$*" in *--test-only*) {real("sbatch")} ;; esac
        for file in {folder}/errors/*; do
        if mv $file {folder}/said 2>/dev/null; then cat {folder}/said >&2; exit 1; fi; done
        {real("sbatch")}"""
    return play(rig, folder, env=stand_in(folder, sbatch=script), cause="munge encode failed")


def wrong_account(rig: Rig, folder: Path) -> Night:
    """The account is not there: refused before the first job."""
    env = {"EPIC100_ACCOUNT": "lp_other"}
    return play(rig, folder, env=env, cause="Invalid account", well=False)


def no_account(rig: Rig, folder: Path) -> Night:
    """The profile still has the account of the example."""
    return play(rig, folder, env={"EPIC100_ACCOUNT": ""}, cause="EPIC100_ACCOUNT", well=False)


def wrong_partition(rig: Rig, folder: Path) -> Night:
    """The partition is not there: refused before the first job."""
    env = {"EPIC100_CPU": "wice/bigmem"}
    return play(rig, folder, env=env, cause="invalid partition", well=False)


def only_node_fails(rig: Rig, folder: Path) -> Night:
    """The only node that is up dies under the jobs, and comes back."""
    rig.at("wice", "scontrol", "update", "NodeName=m28c27n2", "State=DRAIN", "Reason=benchmark")
    with Call(rig, folder, TARGET) as call:
        call.until(SUBMITTED, times=4)
        rig.wait(lambda: any(rig.state(job) == "RUNNING" for job in call.submitted()), "a job")
        rig.end("slurmd-m28c27n1")
        rig.at("wice", "scontrol", "update", "NodeName=m28c27n1", "State=DOWN", "Reason=benchmark")
        call.until("ended by NODE_FAIL")
        rig.bring("slurmd-m28c27n1")
        rig.at("wice", "scontrol", "update", "NodeName=m28c27n1", "State=RESUME", check=False)
        call.end()
    rig.at("wice", "scontrol", "update", "NodeName=m28c27n2", "State=RESUME")
    return Night(call, cause="ended by NODE_FAIL on m28c27n1")


def real_requeue(rig: Rig, folder: Path) -> Night:
    """An operator queues a running job again, under its own id, despite --no-requeue."""
    with Call(rig, folder, TARGET) as call:
        call.until(SUBMITTED, times=4)
        job = call.submitted()[0]
        rig.wait(lambda: rig.state(job) == "RUNNING", "a job that runs")
        rig.at("wice", "scontrol", "update", f"JobId={job}", "Requeue=1")
        rig.at("wice", "scontrol", "requeue", job)
        call.end()
    return Night(call)


def preemption(rig: Rig, folder: Path) -> Night:
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
        call.until(SUBMITTED, times=2)
        rig.wait(lambda: all(rig.state(job) == "RUNNING" for job in call.submitted()), "scans")
        urgent = rig.submit("--qos=urgent", "--nodes=2", "--exclusive")
        call.until("ended by PREEMPTED")
        rig.login("scancel", "-M", "wice", urgent)
        call.end()
    return Night(call, cause="ended by PREEMPTED")


def drain(rig: Rig, folder: Path) -> Night:
    """Both nodes are drained while the scans run, and come back half a minute later."""
    nodes = "NodeName=m28c27n[1-2]"
    with Call(rig, folder, TARGET, env={"SHORTER": "screen.LINE_SECONDS=5"}) as call:
        call.until(SUBMITTED, times=4)
        rig.at("wice", "scontrol", "update", nodes, "State=DRAIN", "Reason=benchmark")
        call.until("its nodes are down, reserved or closed now")
        time.sleep(30)
        rig.at("wice", "scontrol", "update", nodes, "State=RESUME")
        call.end()
    return Night(call, cause="its nodes are down, reserved or closed now")


def names_25_s_late(rig: Rig, folder: Path) -> Night:
    """The login node sees a scan's files 25 s after its job has ended, as on NFS."""
    scan = folder / "results/scan"
    names = f"{scan}/P01.tsv {scan}/P01.index.npz"
    script = f"""case "$*" in *scan*P01*) (until [ -e {scan}/P01.tsv ]; do sleep .1; done
        mkdir -p {folder}/late; mv {names} {folder}/late; sleep 25; mv {folder}/late/* {scan}
        ) </dev/null >/dev/null 2>&1 & ;; esac; {real("sbatch")}"""
    env = stand_in(folder, sbatch=script)
    return play(rig, folder, *SCANS, "--latency-wait", "60", env=env, cause="2 jobs done")


def _clock(rig: Rig, folder: Path, minutes: str) -> Night:
    """A node's clock is off, so what its jobs write has another time."""
    back = f"trap 'find {folder}/results -newermt -2min -exec touch -d {minutes}min {{}} +' EXIT"
    return play(rig, folder, TARGET, "--precommand", back)


def clock_4_minutes_behind(rig: Rig, folder: Path) -> Night:
    """A node's clock is four minutes behind."""
    return _clock(rig, folder, "-4")


def clock_4_minutes_ahead(rig: Rig, folder: Path) -> Night:
    """A node's clock is four minutes ahead of another's: Snakemake itself ends such a job."""
    night = _clock(rig, folder, "+4")
    return Night(night.call, cause="clock skew problem", well=False)


def quota(rig: Rig, folder: Path) -> Night:
    """The first scan finds a full disk, and the others find room."""
    scans = folder / "results/scan"
    full = f"mkdir -p {scans}; mount -t tmpfs -o size=4k none {scans}"
    either = f"if mkdir {folder}/tried; then {full}; else umount -l {scans}; fi 2>/dev/null; true"
    return play(rig, folder, SCANS[0], "--precommand", either, cause="make room")


def _two_calls(rig: Rig, folder: Path, env: dict | None = None) -> Night:
    """A run is killed with its jobs running, and the same command is given again."""
    with Call(rig, folder, TARGET) as killed:
        killed.until(SUBMITTED, times=4)
        killed.kill(signal.SIGKILL)
    with Call(rig, folder, TARGET, env=env) as call:
        call.end()
    # The record of the first call's jobs counts too.
    return Night(call, cause="is of an earlier run here: waiting for its end")


def sigkill_and_the_same_command(rig: Rig, folder: Path) -> Night:
    """A run is killed with its jobs running, and the same command is given again."""
    return _two_calls(rig, folder)


def sigkill_and_another_login(rig: Rig, folder: Path) -> Night:
    """As before, but on another login node: the lock is opened by hand first, as the call says."""
    with Call(rig, folder, TARGET) as killed:
        killed.until(SUBMITTED, times=4)
        killed.kill(signal.SIGKILL)
    (note,) = (folder / ".snakemake/locks").glob("*.run")
    note.rename(note.with_name(f"login2_{note.stem.rpartition('_')[2]}.run"))
    refused = play(rig, folder, well=False).call
    assert "on login2 holds this folder" in refused.screen(), refused.screen()
    with Call(rig, folder, "--unlock") as unlock:
        unlock.end()
    with Call(rig, folder, TARGET) as call:
        call.end()
    return Night(call, cause="is of an earlier run here: waiting for its end")


def two_people(rig: Rig, folder: Path) -> Night:
    """A second person gives the same command while the run is at work."""
    with Call(rig, folder, TARGET) as call:
        call.until(SUBMITTED, times=4)
        second = play(rig, folder, well=False).call
        assert second.process.returncode and "holds this folder" in second.screen()
        call.end()
    return Night(call)


def ctrl_c(rig: Rig, folder: Path) -> Night:
    """Ctrl-C while the jobs run: all are cancelled, and the same command does the rest."""
    with Call(rig, folder, TARGET) as stopped:
        stopped.until(SUBMITTED, times=4)
        stopped.kill(signal.SIGINT)
        assert "Stopped by Ctrl-C" in stopped.screen(), stopped.screen()
    return play(rig, folder)


def out_of_memory(rig: Rig, folder: Path) -> Night:
    """A scan gets too little memory, and would get no more in a retry: it ends at once."""
    fixed = ("scan:mem_mb_per_cpu=30", "scan:cpus_per_task=4")
    cause = "this try would get no more memory"
    return play(rig, folder, SCANS[0], "--set-resources", *fixed, cause=cause, well=False)


def one_rank_of_two_killed(rig: Rig, folder: Path) -> Night:
    """One of the two processes of a training on two nodes is killed; its retry goes on."""
    configure(folder, train=SMALL | {"epochs": 12, "nodes": 2}, predict={"device": "cpu"})
    env = {"EPIC100_SITE": "wice_cpu"}
    with Call(rig, folder, "results/model.pth", profile="./profiles/vsc", env=env) as call:
        work = folder / "results/work_dirs"
        rig.wait(lambda: list(work.glob("*/epoch_*.pth")), "a checkpoint", 600)
        ranks = [
            process
            for process in psutil.process_iter(["cmdline", "environ"])
            if (process.info["environ"] or {}).get("RANK") == "1"
        ]
        ranks[0].send_signal(signal.SIGKILL)
        call.end()
    return Night(call, cause="train is tried again")


NIGHTS: tuple[Callable[[Rig, Path], Night], ...] = (
    plain,
    two_hundred_scans,
    scancel_of_one_job,
    sacct_empty,
    answers_are_nonsense,
    sacct_takes_30_s,
    slurmdbd_away,
    controller_away,
    sbatch_fails_once,
    sbatch_hangs,
    sbatch_times_out_with_the_job_arrived,
    sixteen_errors,
    wrong_account,
    no_account,
    wrong_partition,
    only_node_fails,
    real_requeue,
    drain,
    names_25_s_late,
    clock_4_minutes_behind,
    clock_4_minutes_ahead,
    quota,
    sigkill_and_the_same_command,
    sigkill_and_another_login,
    two_people,
    ctrl_c,
    out_of_memory,
    one_rank_of_two_killed,
    preemption,
)


def second_writers(jobs: list[dict]) -> int:
    """Count the targets for which two jobs ran at once."""
    by_target: dict[str, list[tuple[datetime, datetime]]] = {}
    for job in jobs:
        if job["Start"] not in ("Unknown", "None"):
            times = [datetime.fromisoformat(job[key]) for key in ("Start", "End")]
            by_target.setdefault(job["Comment"], []).append((times[0], times[1]))
    pairs = [zip(sorted(spans), sorted(spans)[1:], strict=False) for spans in by_target.values()]
    return sum(any(one[1] > other[0] for one, other in pair) for pair in pairs)


def cpu_seconds() -> float:
    """The CPU time of the calls that have ended, with all that they started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def figures_of(night: Callable[[Rig, Path], Night], rig: Rig, folder: Path) -> dict:
    """Let a night happen to a new archive, and return its figures."""
    make_archive(folder)
    started, cpu = time.monotonic(), cpu_seconds()
    played = night(rig, folder)
    cpu = cpu_seconds() - cpu
    jobs = rig.jobs(fields="Comment,State,Start,End,SubmitLine")
    own = [job for job in jobs if f"{folder}/" in job["SubmitLine"]]
    return {
        "night": night.__name__,
        "as_it_must": (played.call.process.returncode == 0) is played.well,
        "jobs": len(own),
        "states": dict(Counter(job["State"].split()[0] for job in own)),
        "second_writers": second_writers(own),
        "cause_on_screen": played.cause in played.call.screen(),
        "lines": played.call.screen().count("\n"),
        "seconds": round(time.monotonic() - started),
        "cpu_seconds_on_the_login_node": round(cpu, 1),
    }


def main() -> None:
    """Let the named nights happen, or all."""
    base = Path(tempfile.mkdtemp(prefix="slurm-nights-"))
    os.environ["EPIC100_ACCOUNT"] = ACCOUNT
    # A shell that starts this in the background lets its children ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with running(base / "rig", VSC) as rig:
        for night in NIGHTS:
            if night.__name__ in (sys.argv[1:] or [night.__name__]):
                rig.clear()
                (base / night.__name__).mkdir()
                try:
                    print(json.dumps(figures_of(night, rig, base / night.__name__)), flush=True)
                except (AssertionError, RuntimeError) as error:
                    print(json.dumps({"night": night.__name__, "error": str(error)[-1500:]}))


if __name__ == "__main__":
    main()
