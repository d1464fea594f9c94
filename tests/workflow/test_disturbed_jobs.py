"""Jobs that a failing system call or a second job for the same files disturbs.

No file is ever wrong: it is complete or missing, and the same job, run again, makes all of them.
"""

import random
import re
import shutil
import signal
from collections import defaultdict
from itertools import cycle, islice
from typing import NamedTuple

import pytest

from support.checkout import lacks
from support.disturbed import JOBS, Stage

# These jobs are tested each time with this number of failing calls, the others weekly with three.
OFTEN = {"annotate": 3, "scan": 5}


@pytest.fixture(scope="module")
def stage(lab, model, tmp_path_factory):
    """The folder in which disturbed jobs work."""
    if not shutil.which("gcc"):
        lacks("gcc is missing, which the shim of failing system calls needs")
    stage = Stage(lab, model, tmp_path_factory.mktemp("disturbed"))
    with stage.pool:
        yield stage
        # After a failed test a job may be halted.
        for job in stage.runs:
            job.end()


def draw_places(calls, count):
    """Draw numbers of calls, each with an error; all errors come in turn.

    A call that is drawn is the first or the last of its type on its file.
    """
    numbers = defaultdict(list)
    for number, call in enumerate(calls, start=1):
        # The names of temporary files have such numbers.
        numbers[re.sub(r"[0-9a-f]{16}", "*", call)].append(number)
    ends = {number: call for call, found in numbers.items() for number in (found[0], found[-1])}
    # A full disk stops no read.
    writes = [number for number, call in ends.items() if not call.startswith("read ")]
    rng = random.Random(0)
    candidates = {
        "EIO": rng.sample(sorted(ends), len(ends)),
        "killed": rng.sample(sorted(ends), len(ends)),
        "ENOSPC": rng.sample(sorted(writes), len(writes)),
    }
    return [(candidates[error].pop(), error) for error in islice(cycle(candidates), count)]


def is_clear(line):
    """Whether an error is one line that names its file."""
    names_file = re.search(r"\w/|\w\.[a-zA-Z]\w\w", line) and "a file of this rule" not in line
    return line.startswith("error: ") and names_file


@pytest.mark.parametrize(
    "job",
    [job if job in OFTEN else pytest.param(job, marks=pytest.mark.weekly) for job in JOBS],
)
def test_a_failed_call_never_gives_a_wrong_file(stage, job):
    alone, calls = stage.alone(job)
    for at, error in draw_places(calls, OFTEN.get(job, 3)):
        code, line = stage.begin(job, at, error).end()
        # The killed process may be one that the job has started.
        is_killed = code == -signal.SIGKILL or re.search("killed|ended from outside", line)
        assert code == 0 or is_clear(line) or (error == "killed" and is_killed), line
        made = stage.made(job)
        outputs = {name: content for name, content in made.items() if name in alone}
        assert outputs.items() <= alone.items(), (calls[at - 1], error)
        assert code or made == alone, (calls[at - 1], error)
        stage.remove_outputs(job)
        stage.age_temporary_files()
        code, line = stage.begin(job, new=False).end()
        assert code == 0, line
        assert stage.made(job) == alone, (calls[at - 1], error)


class Way(NamedTuple):
    """How a second job for the same files comes.

    Attributes:
        begins: Where the first job is halted meanwhile: at the "start", "middle" or "end".
        first_waits: Whether the first job goes on only when the second has ended.
        removes: Whether the outputs are removed before the second job, as Snakemake does.
    """

    begins: str
    first_waits: bool = False
    removes: bool = True


@pytest.mark.parametrize(
    ("job", "way"),
    [
        pytest.param("scan", Way("end"), id="Ctrl-C frees the folder while a job is completing"),
        pytest.param("proxy", Way("middle"), id="slurmd of a node dies, its processes live on"),
        pytest.param("predict", Way("middle", first_waits=True), id="Ctrl-Z, another call, fg"),
        pytest.param("train", Way("start", removes=False), id="a job is submitted twice"),
        pytest.param(
            "annotate",
            Way("end", first_waits=True, removes=False),
            id="an old job",
        ),
    ],
)
def test_two_jobs_leave_one_s_files(stage, job, way):
    alone, calls = stage.alone(job)
    draw = random.Random(job)
    renames = [number for number, call in enumerate(calls, 1) if call.startswith("rename ")]
    # Once a training has made its first rename, it has begun.
    halts = {"start": renames[:2][-1], "middle": draw.choice(renames), "end": renames[-1]}
    first = stage.begin(job, halts[way.begins], "halted")
    first.wait()
    if way.removes:
        stage.remove_outputs(job)
    second_halt = 0 if way.first_waits else draw.choice(renames)
    second = stage.begin(job, second_halt, "halted", new=False)
    second.wait()
    first.end()
    code, line = second.end()
    assert code == 0, line
    assert stage.made(job) == alone
