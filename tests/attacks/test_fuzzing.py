"""Every reader of strangers' bytes, on honest files that were changed, or built with a fault."""

import random
import resource
import tempfile
import time
from pathlib import Path

import pytest

from support.fuzzing import TARGETS, attempt

pytestmark = pytest.mark.slow

# All readers together get so many inputs; benchmarks/fuzz.py goes on for hours.
INPUTS = [1_000, pytest.param(100_000, marks=pytest.mark.weekly)]
# One input may take SECONDS on a busy machine. MOST limits memory, in KiB.
SECONDS = 20.0
MOST = 2**20


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_of_strangers_bytes_ends_in_one_error_or_a_result(name, inputs):
    target = TARGETS[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with tempfile.TemporaryDirectory() as folder:
        seeds = target.seeds(Path(folder))
        for seed in seeds:
            attempt(target, seed, Path(folder))

        for number in range(inputs // len(TARGETS)):
            rng = random.Random(f"{name} {number}")
            data, started = target.change(rng.choice(seeds), rng), time.monotonic()
            try:
                attempt(target, data, Path(folder))
            except Exception as error:
                error.add_note(f"input {number} of {name}: {data[:2000].hex()}")
                raise
            assert time.monotonic() - started < SECONDS, number
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST
