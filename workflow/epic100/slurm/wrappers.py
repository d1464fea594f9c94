"""Wrappers of Slurm's commands on Snakemake's PATH, which work around bugs of its executor.

Behaviour of snakemake-executor-plugin-slurm 2.8.0, and what each wrapper does about it:
- For a job cancelled by hand, sacct reports `CANCELLED by 1000`. The executor takes this for
  running, so the workflow never ends. The `sacct` wrapper writes `CANCELLED`.
- If sacct fails in every attempt of one poll (the database is down, or needs over a minute), the
  executor forgets all its jobs and never ends. The `sacct` wrapper asks squeue instead. If that
  fails too, it writes nothing and reports success: jobs without a line are kept and queried again.
- Queries by job id ask only the login node's cluster. The `sacct` wrapper asks all clusters of the
  run.
- The executor looks for a failure's reason where Slurm writes none. The `sacct` wrapper returns
  Slurm's messages from the job's log (memory, time, node), and how long the job ran.
- If the controller or database is down at submission, or a limit of queued jobs is reached, the
  job fails. The `sbatch` wrapper tries again (epic100.slurm.submission).
- After a node failure, that node is excluded from submissions to other clusters too, which reject
  an unknown name. The `sbatch` wrapper removes nodes of other clusters.
- Accounts are looked up in the database before each submission. The `sacctmgr` and `sshare`
  wrappers return nothing if it is down; then sbatch itself decides.

The first two are the executor's hangs. An executor that is mended takes these answers as well.
bin/ contains one launcher for all wrappers; the name that it is called by selects the wrapper.
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from epic100.slurm.commands import message_of, on, real, run
from epic100.slurm.submission import option, submit
from epic100.slurm.watch import note

CLUSTERS = "EPIC100_CLUSTERS"  # variable: clusters of the run; empty: this machine's own
# Must be under the executor's timeout for its status query, one minute.
ANSWER_SECONDS = float(os.environ.get("EPIC100_SACCT_SECONDS", 40))
LOGS = Path(".snakemake/slurm_logs")  # the executor's, below the working directory
SLURM_MESSAGE = re.compile(r"^(?:slurmstepd|slurmd|srun)[^:]*: error: (.+)$", re.MULTILINE)
ENDED = {"PREEMPTED": "CANCELLED", "REVOKED": "CANCELLED"}  # final, because nothing is requeued


def main(program: str, arguments: Sequence[str]) -> int:
    """Run the wrapper of `program` and return its exit status."""
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
    if "--name" in command:
        return _states(command)
    done = run(command, ANSWER_SECONDS)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def _states(command: list[str]) -> int:
    """The executor's status query: one line per job with its id and state."""
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
    if step == "0":  # the executor asks for ten steps; answer once
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
