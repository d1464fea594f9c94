"""The error of a failed job, and the progress of a running one, from their logs."""

import pytest

from snakemake_logger_plugin_epic100.logs import failure_of, lines_of, state_of


@pytest.fixture
def logs(tmp_path):
    """Writes the log of a rule and that of Slurm, and returns their paths."""

    def write(rule, slurm=""):
        (tmp_path / "rule.log").write_text(rule)
        (tmp_path / "7.log").write_text(slurm)
        return [str(tmp_path / "rule.log"), str(tmp_path / "7.log")]

    return write


@pytest.mark.parametrize(
    "rule, slurm, status, error",
    [
        pytest.param(
            "--- 2026-01-01 00:00:00 pid 1\nerror: old\n"
            "--- 2026-01-02 00:00:00 pid 2\nerror: new\n",
            "",
            "",
            "new",
            id="the error of the last attempt",
        ),
        # The second line of the status is a hint of Snakemake, which is not shown.
        pytest.param(
            "Traceback (most recent call last):\n  File x\nRuntimeError: no kernel\n",
            "",
            "TIMEOUT, it ran 01:00:10\nFor further error details see the cluster log.",
            "TIMEOUT, it ran 01:00:10, RuntimeError: no kernel",
            id="the reason of Slurm before the exception",
        ),
        # The lines after the first one are of Snakemake; the last is the beginning of a sentence.
        pytest.param(
            "",
            "no such module\n[Mon Nov 30 07:12:35 2026]\nError in rule scan:\n    jobid: 0\n"
            "Shutting down, this\n",
            "FAILED",
            "FAILED, its log is empty; the end of the cluster's:\n    no such module",
            id="the log of Slurm without the last lines of Snakemake",
        ),
    ],
)
def test_the_reason_of_a_failure_is_read_from_the_logs_and_the_status(
    logs, rule, slurm, status, error
):
    paths = logs(rule, slurm)
    assert failure_of("scan P01", paths, lines_of(paths[0]), status).error == error


def test_a_line_of_mmengine_is_shown_without_its_time(logs):
    rule, _ = logs("12/02 08:08:34 - mmengine - INFO - Epoch(train)  [1][2/2]  loss: 3.4\n")
    assert lines_of(rule) == ["Epoch(train)  [1][2/2]  loss: 3.4"]


def test_a_refused_submission_is_reported_in_the_words_of_slurm(logs):
    # This error is of an earlier attempt.
    old, _ = logs("error: of the first try\n")
    message = "sbatch: error: no such partition\n"
    assert failure_of("scan P01", [old], lines_of(old, state_of(old)), message).lines() == [
        "FAILED scan P01: sbatch: error: no such partition",
        f"  log: {old}",
    ]


def test_progress_is_read_from_the_log_of_the_last_attempt(logs):
    text = "--- 2026-01-01 00:00:00 pid 1\nold\n--- 2026-01-02 00:00:00 pid 2\n"
    path, _ = logs(text + "scan P01: 5/10 frames\n\n")
    assert lines_of(path) == ["scan P01: 5/10 frames"]
    # A log that did not change is of an earlier attempt; the clocks of nodes may differ.
    assert lines_of(path, state_of(path)) == []
    assert lines_of(logs(text)[0]) == lines_of("nowhere.log") == []
