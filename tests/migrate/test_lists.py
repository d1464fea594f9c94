"""A lab's list against the official rows, also by the command as docs/migration.md shows it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.cli.program import main
from epic100.migrate.lists import check_list, convert_list, match_list, summary
from epic100.segments.annotations import index_segments, load_annotations, read_annotations
from epic100.segments.segment_list import read_segments
from epic100.video.scan_table import read_scan_table, write_scan_table
from support.lab import write_sheet
from support.tables import rows_of

CLASSES = {"num_verbs": 97, "num_nouns": 300}
HEADER = "verdict\tline\tnarration_id\tvideo_id\treason"


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
    path.write_text("".join(
        f"{r['participant_id']}/{r['video_id']}.MP4 {int(r['start_frame']) + shift} "
        f"{int(r['stop_frame']) + shift} {r['verb_class']} {r['noun_class']}\n" for r in rows
    ))  # fmt: skip
    return path


@pytest.fixture
def match(lab, official, tmp_path):
    """The match of rows as a lab's list."""

    def matched(rows, against=official, shift=0, videos=lab.videos):
        path = write_lab_list(rows, tmp_path / "lab.txt", shift)
        return match_list(path, against, videos, **CLASSES)

    return matched


@pytest.mark.parametrize("shift", [0, 1])
def test_every_line_finds_its_row_and_that_row_s_id_and_times(lab, official, rows, match, shift):
    kept = [row for row in rows if int(row["start_frame"]) > 1][::-1]
    found = match(kept, shift=-shift)
    assert found.matched.all() and not found.relabelled.any()
    assert found.rows["narration_id"].tolist() == [row["narration_id"] for row in kept]
    table = read_annotations(official, lab.videos, split=None, **CLASSES)
    expected = table.set_index("narration_id").loc[found.rows["narration_id"]].reset_index()
    pd.testing.assert_frame_equal(found.rows[expected.columns], expected)


def test_a_line_twice_is_one_row_and_one_stranger(rows, match):
    found = match([*rows, rows[3]])
    assert found.matched.tolist() == [True] * len(rows) + [False]
    assert found.rows["narration_id"].iloc[-1] == f"{rows[3]['video_id']}_line{len(rows) + 1}"


def test_a_line_with_other_labels_is_distinguished_from_one_at_another_time(rows, match):
    rows[2]["noun_class"] = "299"
    rows[4]["start_frame"] = str(int(rows[4]["start_frame"]) + 9)
    found = match(rows)
    assert [i for i, known in enumerate(found.matched) if not known] == [2, 4]
    assert found.relabelled.nonzero()[0].tolist() == [2]
    # A line without a row keeps the list's own frames, by the annotation clock.
    rate = 50 if len(rows[4]["video_id"].split("_")[1]) == 3 else 60
    assert found.rows["start_seconds"].iloc[4] == int(rows[4]["start_frame"]) / rate


def test_a_list_of_another_split_or_clock_is_refused(lab, rows, match):
    other = lab.folder / "annotations/EPIC_100_validation.csv"
    with pytest.raises(EpicError, match=r"lab\.txt: \d+ of \d+ lines are rows of .*annotation"):
        match(rows, against=other)
    half = [
        {**row, **{name: int(row[name]) // 2 for name in ("start_frame", "stop_frame")}}
        for row in rows
        if int(row["start_frame"]) > 100
    ]
    with pytest.raises(EpicError, match=r"lab\.txt: 0 of \d+ lines"):
        match(half)


def test_a_segment_list_has_the_frames_that_annotate_gives(lab, official, rows, match, tmp_path):
    convert_list(match(rows), official, lab.videos, tmp_path / "ours.txt")
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


def test_what_is_damaged_and_what_lacks_is_named(lab, rows, match, damaged_scans):
    lacking = [row for row in rows if row["video_id"] == "P03_07"] + rows[:1]
    kept = [row for row in rows if row not in lacking]
    found = match(kept)
    findings = check_list(found, lab.videos, damaged_scans)
    touches = [
        number
        for number, row in enumerate(index_segments(found.rows, lab.videos).itertuples(), 1)
        if row.path.startswith("P02") and row.start < 200 and row.stop > 100
    ]
    damaged = findings[findings["verdict"] == "damaged"]
    assert damaged["line"].tolist() == touches and len(touches) > 0
    assert all(reason == "touches damaged frames 100-200 (gaps)" for reason in damaged["reason"])
    lack = findings[findings["verdict"] == "lacking"]
    assert set(lack["narration_id"]) == {row["narration_id"] for row in lacking}
    whole = lack[lack["reason"] != ""]
    assert set(whole["video_id"]) == {"P03_07"} and len(whole) == len(lacking) - 1
    report = summary(found, findings)
    assert report[1].startswith(
        f"{len(found.rows) - len(touches)} sound, {len(touches)} on damaged frames or videos, 0 in"
    )
    assert report[2] == f"  {len(touches)}: touches damaged frames"
    assert report[3].startswith(
        f"{len(lacking)} sound segments lack, {len(whole)} of them in the 1 vi"
    )
    known = [len({(r["verb_class"], r["noun_class"]) for r in some}) for some in (kept, rows)]
    assert report[-1].startswith(f"{known[0]} verb-noun pairs; {known[1]} with")


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


def test_a_video_of_no_sheet_is_one_error(lab, rows, match):
    with pytest.raises(EpicError, match=r"lab\.txt: line \d+ .*column video_id: 'P02_101'"):
        match(rows, videos={"P01_01": lab.videos["P01_01"]})


@pytest.fixture
def call(lab, official, rows, tmp_path):
    """Calls the command with the lab's old list `train.txt`, which lacks a video."""
    write_lab_list([r for r in rows[::-1] if r["video_id"] != "P03_07"], tmp_path / "train.txt")
    sheet = str(write_sheet(lab.videos.values(), tmp_path))
    return lambda command, *more: main(
        ["migrate", command, str(tmp_path / "train.txt"), "--annotations", str(official),
         "--sheet", sheet, *more]
    )  # fmt: skip


def test_the_command_converts_a_list_to_official_rows_that_the_workflow_reads_like_any_other(
    call, lab, rows, tmp_path, capsys
):
    kept, out = [row for row in rows if row["video_id"] != "P03_07"], tmp_path / "lab.csv"
    assert call("list", "--out", str(out)) == 0
    assert f"{len(kept)} lines are rows of" in capsys.readouterr().out
    assert rows_of(out, ",") == kept
    classes = {"verbs": 97, "nouns": 300}
    found = load_annotations(out, lab.videos, split="train", classes=classes)
    assert len(found) == len(kept)


def test_the_command_checks_a_list_and_writes_the_findings(call, lab, rows, tmp_path, capsys):
    out = tmp_path / "findings.tsv"
    assert call("check", "--scans", f"{lab.results}/scan", "--out", str(out)) == 0
    lost = sum(row["video_id"] == "P03_07" for row in rows)
    assert f"{lost} sound segments lack, {lost} of them in the 1 videos" in capsys.readouterr().out
    assert out.read_text().startswith(f"{HEADER}\n")
    assert len(out.read_text().splitlines()) == lost + 1
