"""`epic100 check`: what is there, before anything runs."""

import pytest

from epic100.cli.program import main
from support.archive import VIDEOS, configure

CALL = ["check", "--configfile", "config.yaml"]


@pytest.fixture
def here(archive, monkeypatch):
    monkeypatch.chdir(archive)
    return archive


def lines(capsys) -> dict[str, str]:
    """What is printed, by topic."""
    return {line[8:21].strip(): line for line in capsys.readouterr().out.splitlines()}


def test_a_folder_that_has_all_is_fine_and_what_it_lacks_is_named(here, capsys):
    assert main(CALL) == 0
    found = lines(capsys)
    assert all(line.startswith("ok ") for line in found.values())
    assert "2 of 2 CSV files" in found["annotations"]
    assert "3 of the 3 of sheet.tsv are there, below archive" in found["videos"]
    assert "cores" in found["torch"]
    (here / "csv/EPIC_100_train.csv").unlink()
    VIDEOS[0].path(here / "archive").unlink()
    assert main(CALL) == 1
    found = lines(capsys)
    assert found["annotations"].startswith("MISSING")
    assert "EPIC_100_train.csv" in found["annotations"]
    assert found["videos"].startswith("ok") and "2 of the 3" in found["videos"]
    assert found["train"].endswith(" 1 of 2 (all of P02, none of P01)")
    assert found["val"].endswith(" 1 of 1 (all of P02)")
    configure(here, participants={"include": ["P02"]})  # counts who takes part alone
    main(CALL)
    assert "2 of the 2 of sheet.tsv are there" in lines(capsys)["videos"]


def test_what_the_run_itself_makes_or_fetches_is_not_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--configfile", "config/demo.yaml"]) == 0
    configure(tmp_path, annotations={"download": True}, videos={"download": True})
    assert main(CALL) == 0
    assert "0 of the 700" in lines(capsys)["videos"]
    assert main(["check"]) == 1


def test_a_typo_in_the_config_is_one_line(here, capsys):
    configure(here, trian={})
    assert main(CALL) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: config: config.yaml:5: unknown key 'trian'; did you mean")
