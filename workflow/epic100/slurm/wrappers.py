"""Stand before Slurm's own commands on Snakemake's PATH and mend what its executor gets wrong.

snakemake-executor-plugin-slurm 2.8.0 (and what each wrapper does about it):
- a job cancelled by hand is `CANCELLED by 1000` in sacct, which the executor takes for running, so
  the workflow never ends. `sacct` here writes `CANCELLED`.
- when sacct fails in every attempt of one poll (database away, or slower than a minute), the
  executor forgets all its jobs and never ends. `sacct` here asks squeue instead, and where that
  fails too it writes nothing and reports success: jobs without a line are kept and asked for again.
- look-ups by job id ask the login node's cluster only. `sacct` here asks all that the run uses.
- the reason of a failure is looked for where Slurm writes none. `sacct` here gives Slurm's own
  messages from the job's log (its memory, its time, a node), and how long the job ran.
- a submission that meets an absent controller or database, or a limit of jobs in the queue, fails
  the job. `sbatch` here tries again (epic100.slurm.submission).
- after a node failure that node is excluded from submissions to the other clusters too, which
  refuse a name that they do not know. `sbatch` here leaves out nodes that are not the cluster's.
- accounts are looked up in the database before each submission. `sacctmgr` and `sshare` here are
  empty where it is away: then sbatch itself decides.

The first two are the executor's hangs; where it no longer has them (epic100.slurm.executor), its
status queries pass `sacct` here untouched. bin/ holds one launcher for all, by the name it is
called under.
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from epic100.slurm.commands import message_of, on, real, run
from epic100.slurm.notes import note
from epic100.slurm.submission import option, submit

CLUSTERS = "EPIC100_CLUSTERS"  # variable: those that the run uses; empty: this machine's own
MENDED = "EPIC100_EXECUTOR_MENDED"  # variable: set where the executor no longer hangs
# The executor gives its status query a minute.
ANSWER_SECONDS = float(os.environ.get("EPIC100_SACCT_SECONDS", 40))
LOGS = Path(".snakemake/slurm_logs")  # the executor's, below the working directory
SLURM_MESSAGE = re.compile(r"^(?:slurmstepd|slurmd|srun)[^:]*: error: (.+)$", re.MULTILINE)
ENDED = {"PREEMPTED": "CANCELLED", "REVOKED": "CANCELLED"}  # final, since nothing is requeued


def main(program: str, arguments: Sequence[str]) -> int:
    """Run `program` in its mended form; the exit status."""
    command = [real(program), *arguments]
    if program == "sacct":
        return _sacct(command)
    if program == "sbatch":
        return submit(command)
    done = run(command, ANSWER_SECONDS)
    if done.returncode:
        note(f"{program} fails ({message_of(done)}): accounts are left to sbatch to judge")
    else:
        sys.stdout.write(done.stdout)
    return 0


def _sacct(command: list[str]) -> int:
    if not any(a in ("-M", "-L", "--allclusters") or a.startswith("--cluster") for a in command):
        command[1:1] = _clusters()
    if "--format=Reason" in command:
        return _reason(*option(command, "-j").split("."))
    if "--name" in command and not os.environ.get(MENDED):
        return _states(command)
    done = run(command, ANSWER_SECONDS)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def _states(command: list[str]) -> int:
    """The executor's status query: one line a job, its id and its state."""
    done = run(command, ANSWER_SECONDS)
    if done.returncode:
        failure = message_of(done)
        asked = ["--states", "all", "--noheader", "--format", "%A|%T"]
        name = ["--name", option(command, "--name")]
        done = run([real("squeue"), *_clusters(), *asked, *name], ANSWER_SECONDS / 4)
        other = "squeue answers" if done.returncode == 0 else "nor does squeue; jobs run on"
        note(f"sacct does not tell the state of jobs ({failure}), {other}")
        if done.returncode:
            return 0
    for line in done.stdout.splitlines():
        job, bar, state = line.partition("|")
        state = state.split(" by ")[0]
        print(f"{job}{bar}{ENDED.get(state, state)}")
    return 0


def _reason(job: str, step: str) -> int:
    if step == "0":  # the executor asks for each of ten steps
        asked = ["-X", "-n", "-P", "--format=Elapsed,Timelimit", "-j", job]
        facts = run([real("sacct"), *_clusters(), *asked], ANSWER_SECONDS).stdout.strip()
        spent = "it ran {} of {}".format(*facts.split("|")) if facts.count("|") == 1 else ""
        logs = Path(os.environ.get("EPIC100_SLURM_LOGS") or LOGS).rglob(f"{job}.log")
        texts = [log.read_text("utf-8", "replace") for log in logs]
        found = [message for text in texts for message in SLURM_MESSAGE.findall(text)]
        print("; ".join(filter(None, [spent, *dict.fromkeys(found)])))
    return 0


def _clusters() -> list[str]:
    return on(filter(None, [os.environ.get(CLUSTERS, "all")]))
