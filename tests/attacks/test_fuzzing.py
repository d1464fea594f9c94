"""Every reader of other people's files, on good files that were changed at random."""

import random
import resource
import tempfile
import time
from pathlib import Path

import pytest

from support.fuzzing import TARGETS, attempt


# The number of inputs, which the readers share. The benchmark benchmarks/fuzz.py goes on for hours.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("inputs", [1_000, pytest.param(100_000, marks=pytest.mark.weekly)])
@pytest.mark.parametrize("name", TARGETS)
def test_random_bytes_end_in_one_error_or_result(name, inputs):
    target = TARGETS[name]
    kib_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with tempfile.TemporaryDirectory() as folder:
        seeds = target.seeds(Path(folder))
        for seed in seeds:
            attempt(target, seed, Path(folder))

        for number in range(inputs // len(TARGETS)):
            rng = random.Random(f"{name} {number}")
            data = target.change(rng.choice(seeds), rng)
            started = time.monotonic()
            try:
                attempt(target, data, Path(folder))
            except Exception as error:
                error.add_note(f"input {number} of {name}: {data[:2000].hex()}")
                raise
            # One input takes a few milliseconds, and more on a busy machine.
            assert time.monotonic() - started < 20, number
    # The limit is 1 GiB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - kib_before < 2**20
