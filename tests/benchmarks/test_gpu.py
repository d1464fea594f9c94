"""The benchmark for a GPU node, in miniature: every part of it runs on a CPU."""

import json

import pytest

from support.checkout import python

pytestmark = [pytest.mark.slow, pytest.mark.weekly]


def test_the_gpu_benchmark_runs_every_part_in_miniature():
    table = python("benchmarks/gpu.py", "--small").stdout.splitlines()
    found = json.loads(table[-1])
    assert found["about"]["device"] == "CPU, in miniature"
    tried = {(row["layout"], row["precision"]) for row in found["steps"]}
    assert len(tried) == 8 and all(row["clips_s"] > 0 for row in found["steps"])
    assert found["loader"][0]["clips_s"] > 0
    assert found["training"]["killed"] and found["training"]["resumed_and_finished"]
    assert 0 <= found["training"]["waiting"] <= 1
    assert sum(line.startswith("| channels-last | bf16 | 2 |") for line in table) == 1
