"""`epic100 check`: all inputs on one screen, then a trial of the training."""

import pytest

from epic100.cli import start
from epic100.cli.program import main
from support.archive import VIDEOS, configure

CALL = ["check", "--configfile", "config.yaml"]


@pytest.fixture
def here(archive, monkeypatch):
    """The archive as the working folder; its config trains a small model."""
    monkeypatch.chdir(archive)
    small = {"config": "config/x3d_demo.py", "from_scratch": True, "heads": "pair"}
    configure(archive, train=small)
    return archive


@pytest.fixture
def screen(capsys):
    """Returns the lines that were printed since the last call."""
    return lambda: capsys.readouterr().out.splitlines()


def test_a_missing_csv_is_named_and_videos_are_counted_by_split(here, screen):
    (here / "csv/EPIC_100_train.csv").unlink()
    VIDEOS[0].path(here / "archive").unlink()
    assert main(CALL) == 1
    lines = screen()
    (missing,) = [line for line in lines if line.startswith("MISSING")]
    assert "EPIC_100_train.csv: no such file" in missing
    videos = [line.split(maxsplit=2)[2] for line in lines if line.startswith("ok      videos")]
    assert videos == [
        "archive: 2 of the 3 videos of the sheet are there",
        "train: 1 of 2 (all of P02, none of P01)",
        "val: 1 of 1 (all of P02)",
    ]


def test_only_videos_of_included_participants_are_counted(here, screen):
    # P02 has two of the three videos.
    configure(here, participants={"include": ["P02"]}, predict={"model": "none.pth"})
    main(CALL)
    assert "archive: all 2 videos of the sheet are there" in "".join(screen())


@pytest.mark.slow
def test_a_training_is_tried_with_the_typed_keys(here, screen):
    assert main([*CALL, "train.epochs=7"]) == 0
    *inputs, begins, works, line = screen()
    assert all(line.startswith("ok ") for line in inputs)
    assert "ok      annotations  segments: train 6, val 5" in inputs
    assert "ok      videos       archive: all 3 videos of the sheet are there" in inputs
    assert begins.startswith("Trial: ") and works.startswith("Trial: the training works")
    assert line == "ok      train        works, in a trial with these settings"
    # A training that differs only in its seed is not tried again.
    assert main(["check", "train.epochs=7", "train.seed=3", "--configfile", "config.yaml"]) == 0
    assert screen() == [*inputs, line]
    assert main([*CALL, "train.options={model.cls_head.head.in_channels: 7}"]) == 1
    assert "fails in its trial (RuntimeError: " in screen()[-1]


@pytest.mark.parametrize(
    "config, exit_code, text",
    [
        pytest.param("minikitchen: {}", 0, "Trial: the", id="made by the demo"),
        pytest.param(
            "{annotations: {download: true}, videos: {download: true}}",
            0,
            "none of the 700 videos",
            id="downloaded",
        ),
        pytest.param("run: a", 1, "MISSING", id="neither"),
    ],
)
def test_only_a_file_that_the_run_neither_makes_nor_fetches_is_missing(
    config, exit_code, text, tmp_path, monkeypatch, screen
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(start, "_answer", lambda request: "passed")
    (tmp_path / "config.yaml").write_text(config)
    assert main(CALL) == exit_code
    assert text in "".join(screen())
