"""The anonymous page about a training."""

import getpass
import re
import signal
import socket

import pytest

from epic100.base.machine import driver_version
from epic100.training.diagnosis import FILE, Step, speed
from support import small_runs


@pytest.mark.slow
def test_a_training_that_is_stopped_leaves_a_page_without_paths_or_names(lab, tmp_path):
    results = small_runs.copy_results(lab, tmp_path)
    stop = small_runs.signal_at(3, signal.SIGUSR1)
    process = small_runs.start(lab, results, options=stop, precision="bf16")
    assert small_runs.end_of(process) == 1
    page = (results / FILE).read_text()
    for words in ("schedule: 2 epochs of 4 steps", "GPU: none", "torch: ", "off: precision bf16\n",
                  "next 2 steps: ", "clips/s"):  # fmt: skip
        assert words in page
    assert "needs a GPU" not in page  # the reason, which of other features is a foreign message
    private = [getpass.getuser(), socket.gethostname(), "P01", "work_dirs", tmp_path.name]
    assert [name for name in private if re.search(rf"\b{re.escape(name)}\b", page)] == []
    assert re.findall(r"(?<!\S)[~.]*/\S*|\S+\.(?:py|pth|txt|tsv|MP4)\b", page) == []


def test_the_first_step_is_apart_and_all_processes_count():
    steps = [Step(4.0, 1.0, 8), Step(0.1, 0.3, 8), Step(0.1, 0.3, 8), Step(0.4, 0.4, 8)]
    assert speed(steps, processes=2) == [
        "first step: 5.00 s, 4.00 s of it waiting for data",
        "next 3 steps: 30.0 clips/s, 38 % of the time waiting for data",
        "a step: 400 ms in the middle, 9 of 10 up to 720 ms",
    ]
    assert speed([], processes=1) == ["steps: none yet"]


def test_the_driver_names_its_version_in_a_file(tmp_path):
    file = tmp_path / "version"
    assert driver_version(file) is None
    file.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
        "GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n"
    )
    assert driver_version(file) == "535.104.05"
