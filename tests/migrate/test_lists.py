"""A lab's list against the official rows, also by the command as docs/migration.md shows it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.cli.program import main
from epic100.migrate.lists import check_list, match_list
from epic100.segments.annotations import index_segments, load_annotations, read_annotations
from epic100.segments.segment_list import read_segments
from epic100.video.scan_table import read_scan_table, write_scan_table
from support.lab import write_sheet
from support.tables import rows_of

CLASSES = {"num_verbs": 97, "num_nouns": 300}


@pytest.fixture
def official(lab, tmp_path):
    """The lab's CSV; one narration is a word that pandas takes for a missing value."""
    source, copy = lab.folder / "annotations/EPIC_100_train.csv", tmp_path / "official.csv"
    words = rows_of(source, ",")[0]["narration"]
    copy.write_text(source.read_text().replace(f",{words},", ",null,", 1))
    return copy


@pytest.fixture
def rows(official):
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
    """The match of rows as a lab's list."""

    def matched(rows, against=official, shift=0):
        path = write_lab_list(rows, tmp_path / "lab.txt", shift)
        return match_list(path, against, lab.videos, **CLASSES)

    return matched


@pytest.fixture
def call(lab, official, tmp_path):
    """Calls the command with rows as the lab's old list `train.txt`."""

    def called(command, rows, out, *more):
        old = write_lab_list(rows, tmp_path / "train.txt")
        sheet = write_sheet(lab.videos.values(), tmp_path)
        words = [old, "--annotations", official, "--sheet", sheet, "--out", out, *more]
        assert main(["migrate", command, *map(str, words)]) == 0

    return called


@pytest.mark.parametrize("shift", [0, 1])
def test_every_line_finds_its_row_and_that_row_s_id_and_times(lab, official, rows, match, shift):
    kept = [row for row in rows if int(row["start_frame"]) > 1][::-1]
    found = match(kept, shift=-shift)
    assert found.matched.all() and not found.relabelled.any()
    table = read_annotations(official, lab.videos, split=None, **CLASSES)
    expected = table.set_index("narration_id").loc[[row["narration_id"] for row in kept]]
    pd.testing.assert_frame_equal(found.rows[table.columns], expected.reset_index()[table.columns])


def test_a_line_twice_with_other_labels_or_at_another_time_is_a_stranger(rows, match):
    twice = dict(rows[3])
    rows[2]["noun_class"] = "299"
    rows[4]["start_frame"] = str(int(rows[4]["start_frame"]) + 9)
    found = match([*rows, twice])
    assert (~found.matched).nonzero()[0].tolist() == [2, 4, len(rows)]
    # A line twice counted as one with other labels.
    assert found.relabelled.nonzero()[0].tolist() == [2]
    # A stranger keeps the list's own frames, by the annotation clock.
    rate = 50 if len(rows[4]["video_id"].split("_")[1]) == 3 else 60
    assert found.rows["start_seconds"].iloc[4] == int(rows[4]["start_frame"]) / rate
    assert found.rows["narration_id"].iloc[-1] == f"{twice['video_id']}_line{len(rows) + 1}"


def test_a_list_of_another_split_or_clock_is_refused(lab, rows, match):
    other = lab.folder / "annotations/EPIC_100_validation.csv"
    with pytest.raises(EpicError, match=r"lab\.txt: 0 of \d+ lines are rows of .*annotation clock"):
        match(rows, against=other)


def test_a_list_becomes_official_rows_or_a_segment_list_as_annotate_gives_them(
    call, lab, rows, tmp_path, capsys
):
    kept, out = [row for row in rows if row["video_id"] != "P03_07"], tmp_path / "lab.csv"
    call("list", kept[::-1], out)
    assert f"{len(kept)} lines are rows of" in capsys.readouterr().out
    assert rows_of(out, ",") == kept
    classes = {"verbs": 97, "nouns": 300}
    assert len(load_annotations(out, lab.videos, split="train", classes=classes)) == len(kept)
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


def test_what_is_damaged_and_what_lacks_is_named(
    call, lab, rows, match, damaged_scans, tmp_path, capsys
):
    lacking = [row for row in rows if row["video_id"] == "P03_07"] + rows[:1]
    kept = [row for row in rows if row not in lacking]
    segments = index_segments(match(kept).rows, lab.videos)
    touched = segments["path"].str.startswith("P02") & (segments["start"] < 200)
    lines = [str(i + 1) for i in (touched & (segments["stop"] > 100)).to_numpy().nonzero()[0]]
    call("check", kept, tmp_path / "findings.tsv", "--scans", damaged_scans)
    findings = rows_of(tmp_path / "findings.tsv")
    damaged = [row for row in findings if row["verdict"] == "damaged"]
    assert [row["line"] for row in damaged] == lines != []
    assert {row["reason"] for row in damaged} == {"touches damaged frames 100-200 (gaps)"}
    reasons = {row["narration_id"]: row["reason"] for row in findings if row["line"] == "0"}
    whole = "the list has no segment of its video"
    assert reasons == {
        row["narration_id"]: whole * (row["video_id"] == "P03_07") for row in lacking
    }
    said = capsys.readouterr().out
    sound = len(kept) - len(lines)
    before, after = (
        len({(row["verb_class"], row["noun_class"]) for row in some}) for some in (kept, rows)
    )
    for words in (
        f"\n{sound} sound, {len(lines)} on damaged frames or videos, 0 in",
        f"\n  {len(lines)}: touches damaged frames\n",
        f"\n{len(lacking)} sound segments lack, {len(lacking) - 1} of them in the 1 videos",
        f"\n{before} verb-noun pairs; {after} with",
    ):
        assert words in said


def test_videos_that_were_not_scanned_are_said_and_lack_nothing(
    lab, rows, match, tmp_path, damaged_scans
):
    (damaged_scans / "P01.tsv").unlink()
    found = match(rows[1:])
    findings = check_list(found, lab.videos, damaged_scans)
    not_scanned = findings[findings["verdict"] == "not scanned"]
    assert set(not_scanned["video_id"]) == {"P01_01"} and not_scanned["reason"].eq("").all()
    assert not (findings["verdict"] == "lacking").any()
    with pytest.raises(EpicError, match="no scan table; expected"):
        check_list(found, lab.videos, tmp_path / "nowhere")
