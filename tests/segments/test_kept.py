from epic100.segments.kept import COLUMNS, salvage_lines, salvage_table

LISTED = ["P22/P22_01.MP4"] * 5 + ["P22/P22_02.MP4"] * 3 + ["P01/P01_01.MP4"] * 2
KEPT = {
    "segment": LISTED[1:5] + LISTED[5:],
    "video": ["P01/P01_01.MP4"] * 2,
}


def test_each_participant_is_counted_under_both_policies():
    table = salvage_table(LISTED, KEPT)
    assert tuple(table.columns) == COLUMNS
    assert table.values.tolist() == [["P01", 2, 2, 2], ["P22", 8, 7, 0]]


def test_only_participants_that_lose_something_are_named():
    (line,) = salvage_lines(salvage_table(LISTED, KEPT))
    assert line.startswith("P22: 7 of 8 segments kept") and line.endswith("would keep 0")
