"""Stand before Slurm's own commands on Snakemake's PATH and mend what its executor gets wrong.

snakemake-executor-plugin-slurm 2.8.0 (and what each wrapper does about it):
- a job cancelled by hand is `CANCELLED by 1000` in sacct, which the executor takes for running, so
  the workflow never ends. `sacct` here says `CANCELLED`.
- when sacct fails in every attempt of one poll (database away, or slower than a minute), the
  executor forgets all its jobs and never ends. `sacct` here asks squeue instead, and says nothing,
  successfully, where that fails too: jobs without a line are kept and asked for again.
- look-ups by job id ask the login node's cluster only. `sacct` here asks all of them.
- the reason of a failure is looked for where Slurm writes none. `sacct` here tells what the job's
  log has of Slurm's own words (its memory, its time, a node), and how long it ran.
- a submission that meets an absent controller or database, or a limit of jobs in the queue, fails
  the job. `sbatch` here tries again for half an hour (for a place in the queue: without end), but
  first looks whether the job has arrived after all.
- after a node failure that node is excluded from submissions to the other clusters too, which
  refuse a name that they do not know. `sbatch` here leaves out nodes that are not the cluster's.
- accounts are looked up in the database before each submission. `sacctmgr` and `sshare` here say
  nothing where it is away: then sbatch itself decides.

bin/ holds one launcher for all, by the name it is called under.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

BIN = Path(__file__).resolve().parent / "bin"
NOTES = "EPIC100_SLURM_NOTES"  # variable: the file in which wrappers report what people should know
# The executor gives its status query a minute.
ANSWER_SECONDS = float(os.environ.get("EPIC100_SACCT_SECONDS", 40))
RETRY_SECONDS = float(os.environ.get("EPIC100_SUBMIT_RETRY_SECONDS", 15))
PATIENCE_SECONDS = 1800.0
# What sbatch says when the same submission may work a little later.
PASSING = (
    "Unable to contact slurm controller",
    "can't be reached now",
    "problem talking to the database",
    "Unable to establish connection",
    "Connection refused",
    "Socket timed out",
    "Zero Bytes were transmitted",
    "temporarily unable to accept job",
    "MaxSubmitJob",  # AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit: one's own other jobs
)
LOGS = Path(".snakemake/slurm_logs")  # the executor's, below the working directory
SLURM_SAYS = re.compile(r"^(?:slurmstepd|slurmd|srun)[^:]*: error: (.+)$", re.MULTILINE)
ENDED = {"PREEMPTED": "CANCELLED", "REVOKED": "CANCELLED"}  # final, since nothing is requeued


def main(program: str, arguments: Sequence[str]) -> int:
    """Run `program` in its mended form; the exit status."""
    command = [real(program), *arguments]
    if program == "sacct":
        return _sacct(command)
    if program == "sbatch":
        return _sbatch(command)
    done = _run(command, ANSWER_SECONDS)
    if done.returncode:
        note(f"{program} fails ({_words(done)}): accounts are left to sbatch to judge")
    else:
        sys.stdout.write(done.stdout)
    return 0


def real(program: str) -> str:
    """The program itself, past the wrappers. Raises FileNotFoundError where it is not installed."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(f for f in folders if f and Path(f).resolve() != BIN)
    found = shutil.which(program, path=path)
    if found is None:
        raise FileNotFoundError(f"{program}: not on the PATH")
    return found


def note(text: str) -> None:
    """Tell the people who look at the workflow; its log shows what stands in this file."""
    if path := os.environ.get(NOTES):
        with open(path, "a", encoding="utf-8") as notes:
            notes.write(f"{text}\n")


def _sacct(command: list[str]) -> int:
    if not any(a in ("-M", "-L", "--allclusters") or a.startswith("--cluster") for a in command):
        command[1:1] = ["--clusters", "all"]
    if "--format=Reason" in command:
        return _reason(*_option(command, "-j").split("."))
    done = _run(command, ANSWER_SECONDS)
    if "--name" not in command:  # a look-up of one job, whose failure does no harm
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        return done.returncode
    if done.returncode:
        words = _words(done)
        name = command[command.index("--name") + 1]
        asked = ["--clusters", "all", "--states", "all", "--noheader", "--format", "%A|%T"]
        done = _run([real("squeue"), *asked, "--name", name], ANSWER_SECONDS / 4)
        other = "squeue answers" if done.returncode == 0 else "nor does squeue; jobs run on"
        note(f"sacct does not tell the state of jobs ({words}), {other}")
        if done.returncode:
            return 0
    for line in done.stdout.splitlines():
        job, bar, state = line.partition("|")
        state = state.split(" by ")[0]
        print(f"{job}{bar}{ENDED.get(state, state)}")
    return 0


def _reason(job: str, step: str) -> int:
    if step == "0":  # the executor asks for each of ten steps
        asked = ["-X", "-n", "-P", "--clusters", "all", "--format=Elapsed,Timelimit", "-j", job]
        facts = _run([real("sacct"), *asked], ANSWER_SECONDS).stdout.strip()
        spent = "it ran {} of {}".format(*facts.split("|")) if facts.count("|") == 1 else ""
        logs = LOGS.rglob(f"{job}.log")
        said = [
            words for log in logs for words in SLURM_SAYS.findall(log.read_text("utf-8", "replace"))
        ]
        print("; ".join(filter(None, [spent, *dict.fromkeys(said)])))
    return 0


def _sbatch(command: list[str]) -> int:
    script = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    end, said = time.monotonic() + PATIENCE_SECONDS, ""
    while True:
        done = _run(command, None, script)
        if "Invalid node name" in done.stderr and _excludes_strangers(command):
            continue
        passing = any(words in done.stderr for words in PASSING)
        late = time.monotonic() > end and "MaxSubmitJob" not in done.stderr
        if done.returncode == 0 or not passing or late:
            break
        if _words(done) != said:
            said = _words(done)
            note(f"{_about(command)} cannot be submitted now, trying on: {said}")
        time.sleep(RETRY_SECONDS)
        if arrived := _arrived(command):
            done = subprocess.CompletedProcess(command, 0, f"{arrived}\n", "")
            break
    if done.returncode == 0 and said:
        note(f"{_about(command)} is submitted")
    elif done.returncode == 0 and done.stderr.strip():
        note(f"{_about(command)}: {_words(done)}")  # taken, but not without a word
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def _arrived(command: list[str]) -> str | None:
    """`id;cluster` of the job where an earlier try got through though its answer did not."""
    cluster = _option(command, "--clusters")
    where = ["--clusters", cluster] if cluster else []
    ask = [real("squeue"), *where, "--noheader", "--name", _option(command, "--job-name")]
    done = _run([*ask, "--format", "%A|%k"], ANSWER_SECONDS)
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        job, _, comment = line.partition("|")
        if comment == _option(command, "--comment"):
            return f"{job};{cluster}" if cluster else job
    return None


def _excludes_strangers(command: list[str]) -> bool:
    """Whether nodes of other clusters were excluded; they no longer are."""
    place = next((i for i, word in enumerate(command) if word.startswith("--exclude=")), None)
    if place is None:
        return False
    cluster = _option(command, "--clusters")
    where = ["--clusters", cluster] if cluster else []
    asked = [real("sinfo"), *where, "--noheader", "--Node", "--format", "%N"]
    known = set(_run(asked, ANSWER_SECONDS).stdout.split())
    nodes = command[place].removeprefix("--exclude=").split(",")
    own = [node for node in nodes if node in known]
    command[place : place + 1] = [f"--exclude={','.join(own)}"] if own else []
    return own != nodes


def _option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1] if name in command else ""


def _about(command: list[str]) -> str:
    return _option(command, "--comment").replace("_wildcards_", " ").replace("_", " ", 1) or "a job"


def _words(done: subprocess.CompletedProcess) -> str:
    """What a command said of its failure, in one line."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines)) or f"exit status {done.returncode}"


def _run(command: list[str], seconds: float | None, stdin: str = "") -> subprocess.CompletedProcess:
    try:
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer in {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).name, sys.argv[2:]))
