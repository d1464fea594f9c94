"""The anonymous page about a training; test_loop.py looks at a real one."""

from epic100.base.machine import driver_version
from epic100.training.diagnosis import Step, speed


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
