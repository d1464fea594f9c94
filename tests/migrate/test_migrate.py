"""The command as docs/migration.md shows it."""

import csv

import pytest

from epic100.migrate.__main__ import main
from support.small_runs import write_sheet


@pytest.fixture
def brought(lab, tmp_path):
    """The lab's old list, and a sheet of its videos."""
    with open(lab.folder / "annotations/EPIC_100_train.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    (tmp_path / "train.txt").write_text("".join(
        f"{r['participant_id']}/{r['video_id']}.MP4 {r['start_frame']} {r['stop_frame']} "
        f"{r['verb_class']} {r['noun_class']}\n" for r in rows if r["video_id"] != "P03_07"
    ))  # fmt: skip
    write_sheet(lab, tmp_path)
    return tmp_path, rows


def asked(lab, folder, command, *more):
    csv = str(lab.folder / "annotations/EPIC_100_train.csv")
    return main([command, str(folder / "train.txt"), "--annotations", csv,
                 "--sheet", str(folder / "sheet.tsv"), *more])  # fmt: skip


def test_a_list_is_converted_and_it_is_said_what_matched(lab, brought, capsys):
    folder, rows = brought
    assert asked(lab, folder, "list", "--out", str(folder / "lab.csv")) == 0
    count = len((folder / "train.txt").read_text().splitlines())
    assert f"{count} lines are rows of" in capsys.readouterr().out
    assert len((folder / "lab.csv").read_text().splitlines()) == count + 1 < len(rows) + 1


def test_a_list_is_checked_and_the_findings_are_written(lab, brought, capsys):
    folder, rows = brought
    out = str(folder / "findings.tsv")
    assert asked(lab, folder, "check", "--scans", f"{lab.results}/scan", "--out", out) == 0
    lost = sum(row["video_id"] == "P03_07" for row in rows)
    assert f"{lost} sound segments lack, {lost} of them in the 1 videos" in capsys.readouterr().out
    assert len((folder / "findings.tsv").read_text().splitlines()) == lost + 1


def test_bad_input_is_one_line_and_leaves_nothing(lab, brought, capsys):
    folder, _ = brought
    (folder / "train.txt").write_text("P01/P01_01.MP4 5 9\n")
    assert asked(lab, folder, "list", "--out", str(folder / "lab.csv")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "train.txt: line 1" in line
    assert not (folder / "lab.csv").exists()
