"""A second job for the same files does no harm: a round of the ways in which one came about.

In a round each way meets one job; weekly every other job too.
"""

from itertools import product
from random import Random

import pytest

from support.two_writers import JOBS, WAYS, Stage

pytestmark = pytest.mark.slow


def round_and_rest():
    """Pairs of a way and a job; those of the first round are not weekly."""
    for (number, way), (place, job) in product(enumerate(WAYS), enumerate(JOBS)):
        often = place == number % len(JOBS)
        yield pytest.param(way, job, marks=() if often else pytest.mark.weekly)


@pytest.fixture(scope="module")
def stage(lab, tmp_path_factory):
    return Stage(lab, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize(("way", "job"), [*round_and_rest()])
def test_two_jobs_for_the_same_files_leave_those_of_one(stage, way, job):
    number = list(WAYS).index(way)
    assert stage.play(way, job, Random(number)) == []
