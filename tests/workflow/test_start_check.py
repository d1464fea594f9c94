"""The start check on the real DAG: before the first job, and by itself."""

import pytest

from support.archive import configure, errors, run, said

pytestmark = pytest.mark.slow

RIGHT = {"config": "config/x3d_demo.py", "from_scratch": True}
WRONG = RIGHT | {"options": {"model.cls_head.num_classes": 7}}


def test_a_hopeless_training_stops_before_the_first_job_and_a_scan_alone_needs_none(
    new_archive, tmp_path
):
    folder = new_archive(tmp_path)
    configure(folder, train=WRONG)
    done = run(folder, "results/model.pth")
    assert done.returncode != 0
    (line,) = errors(done)
    assert "the head has 7 outputs" in line and "expected 5 outputs" in line
    assert "ready   videos      archive: all 3 videos of the sheet are there" in said(done)
    assert not (folder / "results/segments").exists() and not (folder / "results/scan").exists()
    done = run(folder, "results/scan/P01.tsv")
    assert done.returncode == 0, said(done)
    configure(folder, train=RIGHT)
    assert "Nothing to be done" in said(run(folder, "results/scan/P01.tsv", "-n"))
    done = run(folder, "results/start_check.txt")
    assert done.returncode == 0, said(done)
    screen = (folder / "results/start_check.txt").read_text()
    assert screen.startswith("Start check: nothing is wrong\n") and "error:" not in screen
    assert "archive: all 3 videos of the sheet are there" in screen
