"""`make test` after a change: the quick tests that reach it come first."""

import subprocess
import sys

import pytest

from support.checkout import ROOT

FILES = {
    "pyproject.toml": "[tool.pytest]\nmarkers = ['slow', 'thorough', 'weekly']\n",
    "workflow/epic100/scan/frames.py": "RATE = 50\n",
    "tests/scan/test_frames.py": "def test_of_the_scan(): assert {}\n",
    "tests/behaviour/test_net.py": "def test_of_the_net(): pass\n",
    "tests/video/test_index.py": "def test_of_the_video(): pass\n",
}


@pytest.fixture
def changed(tmp_path):
    """A small checkout in which a module of the scan differs from the last commit."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text.format(True))
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "Begin"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=b", *words], cwd=tmp_path)
    (tmp_path / "workflow/epic100/scan/frames.py").write_text("RATE = 60\n")
    return tmp_path


def run(folder):
    command = [sys.executable, ROOT / "tests/tools/side_by_side.py", "tests", "-vv"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_all_tests_follow_those_that_a_change_reaches(changed):
    run(changed)
    minutes = (changed / "build/tests.minutes").read_text()
    done = run(changed)
    reached, everything = done.stdout.split(
        f"Now all tests. The last time they took {minutes} minutes."
    )
    assert "test_of_the_scan" in reached and "test_of_the_video" not in reached
    assert "test_of_the_scan" in everything and "test_of_the_video" in everything
    assert done.returncode == 0


def test_a_failure_of_what_a_change_reaches_comes_without_a_wait_for_the_others(changed):
    (changed / "tests/scan/test_frames.py").write_text(
        FILES["tests/scan/test_frames.py"].format(False)
    )
    done = run(changed)
    assert "FAILED tests/scan/test_frames.py" in done.stdout
    assert "test_of_the_video" not in done.stdout and done.returncode == 1
