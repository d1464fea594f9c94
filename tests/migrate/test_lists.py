"""A lab's list of segments is matched with the official rows (docs/migration.md)."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.cli.program import main
from epic100.migrate.lists import WHOLE_VIDEO, check_list, match_list
from epic100.segments.annotations import index_segments, read_annotations
from epic100.segments.segment_list import read_segments
from epic100.video.scan_table import read_scan_table, write_scan_table
from support.lab import write_sheet
from support.tables import rows_of

CLASSES = {"num_verbs": 97, "num_nouns": 300}


@pytest.fixture
def official(lab, tmp_path):
    """The lab's CSV; one narration is a word that pandas takes for a missing value."""
    source = lab.folder / "annotations/EPIC_100_train.csv"
    narration = rows_of(source, ",")[0]["narration"]
    copy = tmp_path / "official.csv"
    copy.write_text(source.read_text().replace(f",{narration},", ",null,", 1))
    return copy


@pytest.fixture
def rows(official):
    """The rows of the official CSV, each as texts by column."""
    return rows_of(official, ",")


def write_lab_list(rows, path, shift=0):
    """Write rows as a lab's list, their frames as published or moved by `shift`."""
    lines = [
        f"{row['participant_id']}/{row['video_id']}.MP4 {int(row['start_frame']) + shift} "
        f"{int(row['stop_frame']) + shift} {row['verb_class']} {row['noun_class']}\n"
        for row in rows
    ]
    path.write_text("".join(lines))
    return path


@pytest.fixture
def match(lab, official, tmp_path):
    """Matches rows, written as a lab's list, with the official rows."""

    def matched(rows, against=official, shift=0):
        path = write_lab_list(rows, tmp_path / "lab.txt", shift)
        return match_list(path, against, lab.videos, **CLASSES)

    return matched


@pytest.fixture
def call(lab, official, tmp_path):
    """Calls the command with rows as the lab's old list `train.txt`."""

    def called(command, rows, out, *options):
        old = write_lab_list(rows, tmp_path / "train.txt")
        sheet = write_sheet(lab.videos.values(), tmp_path)
        words = [old, "--annotations", official, "--sheet", sheet, "--out", out, *options]
        assert main(["migrate", command, *map(str, words)]) == 0

    return called


@pytest.mark.parametrize("shift", [0, 1])
def test_a_line_gets_the_id_and_the_times_of_its_official_row(lab, official, rows, match, shift):
    reversed_rows = [row for row in rows if int(row["start_frame"]) > 1][::-1]
    found = match(reversed_rows, shift=-shift)
    assert found.matched.all() and not found.relabelled.any()
    table = read_annotations(official, lab.videos, split=None, **CLASSES)
    expected = table.set_index("narration_id").loc[[row["narration_id"] for row in reversed_rows]]
    pd.testing.assert_frame_equal(found.rows[table.columns], expected.reset_index()[table.columns])


def test_a_line_without_an_official_row_has_the_times_of_the_list(rows, match):
    rows[4]["start_frame"] = str(int(rows[4]["start_frame"]) + 9)
    found = match(rows)
    assert (~found.matched).nonzero()[0].tolist() == [4] and not found.relabelled.any()
    # Videos of the extension, with three digits, are annotated at 50 frames a second.
    rate = 50 if len(rows[4]["video_id"].split("_")[1]) == 3 else 60
    assert found.rows["start_seconds"].iloc[4] == int(rows[4]["start_frame"]) / rate
    assert found.rows["narration_id"].iloc[4] == f"{rows[4]['video_id']}_line5"


def test_a_line_with_other_labels_is_told_from_a_line_that_is_there_twice(rows, match):
    twice = dict(rows[3])
    rows[2]["noun_class"] = "299"
    found = match([*rows, twice])
    assert (~found.matched).nonzero()[0].tolist() == [2, len(rows)]
    assert found.relabelled.nonzero()[0].tolist() == [2]


def test_a_list_of_another_split_is_refused(lab, rows, match):
    other = lab.folder / "annotations/EPIC_100_validation.csv"
    with pytest.raises(EpicError, match=r"lab\.txt: 0 of \d+ lines are rows of .*annotation clock"):
        match(rows, against=other)


def test_a_list_becomes_the_official_csv_of_its_rows(call, rows, tmp_path, capsys):
    listed = [row for row in rows if row["video_id"] != "P03_07"]
    call("list", listed[::-1], tmp_path / "lab.csv")
    assert f"{len(listed)} lines are rows of" in capsys.readouterr().out
    assert rows_of(tmp_path / "lab.csv", ",") == listed


def test_a_list_becomes_the_segment_list_that_annotate_writes(call, lab, rows, tmp_path):
    call("list", rows, tmp_path / "ours.txt")
    expected = read_segments(f"{lab.results}/segments/train.txt")
    pd.testing.assert_frame_equal(read_segments(tmp_path / "ours.txt"), expected)


@pytest.fixture
def damaged_scans(lab, tmp_path):
    """The lab's scan tables, with frames 100 to 200 of P02_101 damaged."""
    folder = Path(shutil.copytree(f"{lab.results}/scan", tmp_path / "scan"))
    (row,) = read_scan_table(folder / "P02.tsv")
    damaged = replace(row, status="damaged", damaged=[(100, 200)], reason="gaps")
    write_scan_table([damaged], folder / "P02.tsv")
    return folder


def test_damaged_and_missing_segments_are_counted_and_named(
    call, lab, rows, match, damaged_scans, tmp_path, capsys
):
    missing = [row for row in rows if row["video_id"] == "P03_07"] + rows[:1]
    listed = [row for row in rows if row not in missing]
    segments = index_segments(match(listed).rows, lab.videos)
    on_damage = segments["path"].str.startswith("P02") & (segments["start"] < 200)
    lines = (on_damage & (segments["stop"] > 100)).to_numpy().nonzero()[0] + 1
    call("check", listed, tmp_path / "findings.tsv", "--scans", damaged_scans)
    findings = pd.read_csv(tmp_path / "findings.tsv", sep="\t", keep_default_na=False)
    damaged = findings[findings["verdict"] == "damaged"]
    assert damaged["line"].tolist() == lines.tolist() != []
    assert set(damaged["reason"]) == {"touches damaged frames 100-200 (gaps)"}
    unlisted = findings[findings["line"] == 0]
    assert dict(zip(unlisted["narration_id"], unlisted["reason"], strict=True)) == {
        row["narration_id"]: WHOLE_VIDEO if row["video_id"] == "P03_07" else "" for row in missing
    }
    screen = capsys.readouterr().out
    assert f"\n{len(listed) - len(lines)} sound, {len(lines)} on damaged frames" in screen
    assert f"\n  {len(lines)}: touches damaged frames\n" in screen
    assert f"\n{len(missing)} sound segments lack, {len(missing) - 1} of them in the 1 vi" in screen


def test_no_segment_of_a_video_that_was_not_scanned_is_lacking(lab, rows, match, damaged_scans):
    (damaged_scans / "P01.tsv").unlink()
    # Row 0, which is left out of the list, is of P01_01.
    findings = check_list(match(rows[1:]), lab.videos, damaged_scans)
    assert "lacking" not in set(findings["verdict"])
    not_scanned = findings[findings["verdict"] == "not scanned"]
    assert set(not_scanned["video_id"]) == {"P01_01"} and not_scanned["reason"].eq("").all()


def test_a_folder_without_scan_tables_is_refused(lab, rows, match, tmp_path):
    with pytest.raises(EpicError, match="no scan table; expected"):
        check_list(match(rows), lab.videos, tmp_path / "nowhere")
