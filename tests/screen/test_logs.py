"""Why a job failed, in the clearest words that its logs have, and how far it is."""

import os
import time

import pytest

from snakemake_logger_plugin_epic100.logs import failure_of, lines_of

STATUS = (
    "SLURM-job '7' failed, SLURM status is: 'TIMEOUT'. Reason: Step 0: it ran 01:00:10 of 01:00:00."
)


@pytest.fixture
def logs(tmp_path):
    def write(rule, slurm=""):
        (tmp_path / "rule.log").write_text(rule)
        (tmp_path / "7.log").write_text(slurm)
        return [str(tmp_path / "rule.log"), str(tmp_path / "7.log")]

    return write


def test_the_clear_error_of_the_last_attempt_is_reported(logs):
    text = "--- 2026-01-01 00:00:00 pid 1\nerror: old\n--- 2026-01-02 00:00:00 pid 2\nerror: new\n"
    failure = failure_of("clean", logs(text), "")
    assert failure.lines() == ["FAILED clean: new", f"  log: {logs(text)[0]}"]


def test_without_one_the_exception_is_reported_and_slurms_reason_before_it(logs):
    text = "Traceback (most recent call last):\n  File x\nRuntimeError: CUDA error: no kernel\n"
    error = failure_of("train", logs(text), STATUS).error
    assert error == "TIMEOUT, it ran 01:00:10 of 01:00:00, RuntimeError: CUDA error: no kernel"


def test_a_refused_submission_is_reported_in_the_sites_words(logs):
    message = "SLURM sbatch failed. The error message was 'sbatch: error: no\nsuch partition'.\n"
    assert failure_of("scan P01", [], message).lines() == [
        "FAILED scan P01: sbatch: error: no such partition"
    ]


def test_how_far_a_job_is_comes_from_the_log_of_this_attempt_alone(logs):
    text = "--- 2026-01-01 00:00:00 pid 1\nold\n--- 2026-01-02 00:00:00 pid 2\n"
    path, _ = logs(text + "scan P01: 5/10 frames\n\n")
    assert lines_of(path) == ["scan P01: 5/10 frames"]
    os.utime(path, (1, 1))
    assert lines_of(path, since=time.time()) == []
    assert lines_of(logs(text)[0]) == lines_of("nowhere.log") == []
