"""Progress as read from the logs that the rules write themselves."""

import os
import time

import pytest

from epic100.base.log import Progress
from snakemake_logger_plugin_epic100.progress import progress_of

TRAIN = """--- 2026-11-26 03:26:19 pid 3219
epoch 1/40: loss 9.5, 1.0 segments/s, 20 % of the time waiting for data
--- 2026-11-26 04:26:19 pid 3300
train: 4565/4840 segments, 34.7/s, 00:07 left, epoch 38/40, loss 0.01015, data 22 %
epoch 38/40: loss 0.2174, verb top-1 90.00 %, action top-1 89.13 %, 26.4 segments/s
train: 4600/4840 segments, 34.7/s, 00:06 left, epoch 39/40, loss 0.02, data 22 %
"""


@pytest.fixture
def log(tmp_path):
    def write(text):
        (tmp_path / "rule.log").write_text(text)
        return [str(tmp_path / "rule.log")]

    return write


def test_a_trainings_epoch_loss_top1_and_time_left_are_the_last_of_this_attempt(log):
    assert progress_of(log(TRAIN), 0) == "epoch 39/40, loss 0.02, top-1 89.13 %, 00:06 left"


def test_what_an_earlier_attempt_wrote_is_not_shown(log):
    assert progress_of(log(TRAIN + "--- 2026-11-26 05:26:19 pid 3301\n"), 0) == ""
    paths = log(TRAIN)
    os.utime(paths[0], (1, 1))
    assert progress_of(paths, time.time()) == ""


def test_the_lines_that_progress_writes_are_read(log):
    bar = Progress("scan P03", 2000, "frames")
    bar.done = 500
    assert progress_of(log(f"{bar.line('P03_01')}\n"), 0).startswith("25 %, P03_01, ")


@pytest.mark.parametrize("paths", [[], ["nowhere.log"]])
def test_a_job_without_a_log_has_no_progress(paths):
    assert progress_of(paths, 0) == ""
