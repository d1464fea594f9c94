"""Benchmarks in miniature: ways to read an archive, a node with a GPU, a rehearsal."""

import json

import archive
import pytest

from support.checkout import needs_decord, python


@needs_decord
def test_each_way_to_read_an_archive_is_measured(tmp_path):
    archive.make_archive(tmp_path, files=2, minutes=0.1, size=(96, 54))
    # `compare` fails if ways that must read the same frames do not.
    found = archive.compare(tmp_path, count=4)
    # Originals and copies are read in two floors and three ways of ours, and originals in three
    # ways of other libraries.
    assert len(found) == 2 * (2 + 3) + 3
    for name, row in found.items():
        if "missing" not in row:
            assert row["cpu_ms"] > 0 and row["peak_mb"] > 100, name
        if name.endswith((": ours", ": ours, training size")):
            # The bytes beyond the floor are audio, and packets of pictures that are not shown.
            assert row["mb"] > 0 and 0 <= row["beyond_kb"] < 64, name
    assert "| original: floor |" in archive.table(found)


@pytest.mark.weekly
def test_the_gpu_benchmark_answers_every_question_in_miniature():
    *printed, figures = python("benchmarks/gpu.py", "--small").stdout.splitlines()
    found = json.loads(figures)
    assert found["device"] == "CPU, in miniature"
    # The questions come in the order in which a GPU's time should be spent.
    questions = [line.split()[0] for line in printed if line.endswith("?")]
    assert questions == ["How", "Which", "Does", "What", "Does", "How"]
    tried = {(row["precision"], row["layout"]) for row in found["steps"]}
    assert len(tried) == 2 * 2
    assert all(row["clips_s"] > 0 for row in [*found["steps"], *found["memory"]])
    assert [row["source"] for row in found["loading"]] == ["640x360", "small copies"]
    assert all(row["clips_s"] > 0 and 0 <= row["waiting"] <= 1 for row in found["loading"])
    assert all(row["ms"] > 0 for row in found["reading"]) and len(found["reading"]) == 3
    # A training was killed and went on, and one had two processes.
    assert [row["works"] for row in found["ends"]] == [True, True]
    ways = [row["way"] for row in found["zoo"] if row["clips_s"] > 0 <= row["waiting"] <= 1]
    assert ways == ["this workflow", "MMAction2"]


@pytest.mark.weekly
def test_a_twice_killed_rehearsal_ends_the_same(tmp_path):
    """A small archive, from videos to both submissions; some files are missing or damaged."""
    # The name of a folder may have a space.
    folder = tmp_path / "the rehearsal"
    printed = json.loads(
        python("benchmarks/rehearsal.py", folder, "--small").stdout.splitlines()[-1]
    )
    assert printed["differ"] == []
    ends = [call["end"].split()[0] for call in printed["calls"]]
    assert ends == ["SIGTERM", "SIGKILL", "whole", "whole"]
    assert all((folder / "straight/results").glob("submission.*"))
