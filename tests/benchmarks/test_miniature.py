"""Benchmarks in miniature: of reading an archive in every way there is, and of a GPU node."""

import json

import archive
import pytest

from support.checkout import needs_decord, python

pytestmark = pytest.mark.slow


@needs_decord
def test_every_way_reads_the_same_frames_and_is_a_row_of_the_table(tmp_path):
    # It makes two files of six seconds.
    archive.make_archive(tmp_path, 2, 0.1, (96, 54))
    # `compare` fails if ways that must read the same frames do not.
    found = archive.compare(tmp_path, 4)
    assert len(found) == 19
    for name, row in found.items():
        if "missing" not in row:
            assert row["cpu_ms"] > 0 and row["peak_mb"] > 100, name
            assert row["mb"] > 0 or not name.endswith((": ours", "stock")), name
            if name.endswith((": ours", ": ours, training size")):
                # The bytes beyond the floor are sound, and packets of pictures that are not shown.
                assert 0 <= row["beyond_kb"] < 64, name
    text = archive.table(found)
    assert text.count("\n") == 20 and "| original: floor |" in text


@pytest.mark.weekly
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
    ways = [row["way"] for row in found["zoo"] if row["clips_s"] > 0 <= row["waiting"] <= 1]
    assert ways == ["this workflow", "MMAction2"]
