"""`epic100 check`: all inputs on one screen, then the training, the whole way once."""

import pytest

from epic100.cli.program import main
from support.archive import VIDEOS, configure

CALL = ["check", "--configfile", "config.yaml"]
SMALL = {"config": "config/x3d_demo.py", "from_scratch": True, "heads": "pair"}
WORKS = "Start check: nothing is wrong"


@pytest.fixture
def here(archive, monkeypatch):
    monkeypatch.chdir(archive)
    configure(archive, train=SMALL)
    return archive


def lines(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_what_a_folder_lacks_is_named_and_then_no_training_is_tried(here, capsys):
    (here / "csv/EPIC_100_train.csv").unlink()
    VIDEOS[0].path(here / "archive").unlink()
    assert main(CALL) == 1
    screen = lines(capsys)
    missing = [line for line in screen if line.startswith("MISSING")]
    assert len(missing) == 1 and "EPIC_100_train.csv: no such file" in missing[0]
    videos = [line.split(maxsplit=2)[2] for line in screen if line.startswith("ok      videos")]
    assert videos == [
        "archive: 2 of the 3 videos of the sheet are there",
        "train: 1 of 2 (all of P02, none of P01)",
        "val: 1 of 1 (all of P02)",
    ]
    # Only videos of participants that take part are counted.
    configure(here, participants={"include": ["P02"]})
    main(CALL)
    assert "archive: all 2 videos of the sheet are there" in "".join(lines(capsys))


@pytest.mark.slow
def test_a_training_is_tried_with_the_keys_that_are_typed_and_its_screen_is_kept(here, capsys):
    assert main([*CALL, "train.epochs=7"]) == 0
    first = lines(capsys)
    inputs = first[: first.index(WORKS)]
    assert all(line.startswith("ok ") for line in inputs)
    assert "ok      annotations  segments: train 6, val 5" in inputs
    assert "ok      videos       archive: all 3 videos of the sheet are there" in inputs
    assert any(line.startswith("schedule: 7 epochs") for line in first)
    # A training that differs in its seed alone is not tried again: the kept screen is its answer.
    assert main(["check", "train.epochs=7", "train.seed=3", "--configfile", "config.yaml"]) == 0
    assert lines(capsys) == first


@pytest.mark.slow
def test_a_training_that_cannot_work_is_an_error_of_the_check(here, capsys):
    assert main([*CALL, "train.options={model.cls_head.head.in_channels: 7}"]) == 1
    assert "a training step with these settings fails (RuntimeError: " in lines(capsys)[-1]


@pytest.mark.slow
def test_where_jobs_run_on_other_machines_the_profile_says_so(here, capsys):
    assert main([*CALL, "--profile", "profiles/vsc"]) == 0
    assert "  device: of another machine: tried first thing in the job" in lines(capsys)


def test_what_the_run_itself_makes_or_fetches_is_not_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--configfile", "config/demo.yaml"]) == 0
    assert lines(capsys)[-1] == (
        "note    train        is tried by the run, once the annotations are there"
    )
    configure(tmp_path, annotations={"download": True}, videos={"download": True})
    assert main(CALL) == 0
    assert "none of the 700 videos" in "".join(lines(capsys))
    assert main(["check"]) == 1
