"""Every reader of strangers' bytes, on honest files that were changed at random."""

import random
import resource
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.fuzzing import TARGETS, attempt, changed

pytestmark = pytest.mark.slow

# Inputs of each reader; benchmarks/fuzz.py goes on for hours.
EXAMPLES = [40, pytest.param(150, marks=pytest.mark.weekly)]
SECONDS = 20.0  # that one input may take on a busy machine
MOST = 2**20  # KiB


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_of_strangers_bytes_ends_in_one_error_or_a_result(name, examples):
    target = TARGETS[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with tempfile.TemporaryDirectory() as folder:
        seeds = target.honest(Path(folder))
        for seed in seeds:
            attempt(target, seed, Path(folder))

        @settings(max_examples=examples, deadline=None, database=None, derandomize=True,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(st.sampled_from(range(len(seeds))), st.integers(0, 2**64))
        def read(which: int, seed: int) -> None:
            started = time.monotonic()
            attempt(target, changed(target, seeds[which], random.Random(seed)), Path(folder))
            assert time.monotonic() - started < SECONDS

        read()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST
