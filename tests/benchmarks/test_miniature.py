"""Two benchmarks in miniature: of the ways to read an archive, and of a node with a GPU."""

import json

import archive
import pytest

from support.checkout import needs_decord, python

pytestmark = pytest.mark.slow


@needs_decord
def test_each_way_to_read_an_archive_is_measured(tmp_path):
    archive.make_archive(tmp_path, files=2, minutes=0.1, size=(96, 54))
    # `compare` fails if ways that must read the same frames do not.
    found = archive.compare(tmp_path, count=4)
    # Originals and copies are read in two floors and four ways of ours, and originals in seven ways
    # of other libraries.
    assert len(found) == 2 * (2 + 4) + 7
    for name, row in found.items():
        if "missing" not in row:
            assert row["cpu_ms"] > 0 and row["peak_mb"] > 100, name
        if name.endswith((": ours", ": ours, training size")):
            # The bytes beyond the floor are audio, and packets of pictures that are not shown.
            assert row["mb"] > 0 and 0 <= row["beyond_kb"] < 64, name
    assert "| original: floor |" in archive.table(found)


@pytest.mark.weekly
def test_the_gpu_benchmark_runs_every_part_in_miniature():
    *table, figures = python("benchmarks/gpu.py", "--small").stdout.splitlines()
    found = json.loads(figures)
    assert found["about"]["device"] == "CPU, in miniature"
    tried = {(row["layout"], row["precision"]) for row in found["steps"]}
    # Each of the two layouts is tried with each of the four precisions.
    assert len(tried) == 2 * 4 and all(row["clips_s"] > 0 for row in found["steps"])
    assert sum(line.startswith("| channels-last | bf16 | 2 |") for line in table) == 1
    assert found["loader"][0]["clips_s"] > 0
    assert found["training"]["killed"] and found["training"]["resumed_and_finished"]
    assert 0 <= found["training"]["waiting"] <= 1
    ways = [row["way"] for row in found["zoo"] if row["clips_s"] > 0 <= row["waiting"] <= 1]
    assert ways == ["this workflow", "MMAction2"]
