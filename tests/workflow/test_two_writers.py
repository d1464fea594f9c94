"""Two jobs for the same files leave complete files of one of them.

`WAYS` has the ways in which a second job can start, and `JOBS` the jobs. Each way is tried with one
job, and weekly with all.
"""

from itertools import product
from random import Random

import pytest

from support.two_writers import JOBS, WAYS, Stage

pytestmark = pytest.mark.slow


def ways_and_jobs():
    """All pairs of a way and a job; of each way, all but one are weekly."""
    for (number, way), (place, job) in product(enumerate(WAYS), enumerate(JOBS)):
        often = place == number % len(JOBS)
        yield pytest.param(way, job, marks=() if often else pytest.mark.weekly)


@pytest.fixture(scope="module")
def stage(lab, tmp_path_factory):
    """The inputs of the jobs, and the folder in which each two of them work."""
    return Stage(lab, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize(("way", "job"), [*ways_and_jobs()])
def test_two_jobs_for_the_same_files_leave_those_of_one(stage, way, job):
    # Each way has random numbers of its own, the same ones in every run. `play` returns a line for
    # each file that is wrong.
    number = list(WAYS).index(way)
    assert stage.play(way, job, Random(number)) == []
