"""A second job for the same files does no harm: a round of the ways in which one came about.

`benchmarks/two_writers.py` plays more rounds, in which each job meets each way.
"""

from random import Random

import pytest

from support.two_writers import JOBS, WAYS, Stage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stage(lab, tmp_path_factory):
    return Stage(lab, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("number", range(len(WAYS)), ids=list(WAYS))
def test_two_jobs_for_the_same_files_leave_those_of_one(stage, number):
    job = list(JOBS)[number % len(JOBS)]
    assert stage.play(list(WAYS)[number], job, Random(number)) == []
