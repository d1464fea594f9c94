from epic100.video.on_disk import on_disk_lines
from epic100.video.sheet import Video

VIDEOS = [
    Video("P01_01", "P01", "train", 50.0, 9.0),
    Video("P01_02", "P01", "train", 50.0, 9.0),
    Video("P02_01", "P02", "train", 50.0, 9.0),
    Video("P03_01", "P03", "train", 50.0, 9.0),
    Video("P03_02", "P03", "val", 50.0, 9.0),
]


def test_what_is_there_is_counted_by_split_and_participant():
    assert list(on_disk_lines(VIDEOS, {"P01_02", "P02_01"}, "videos")) == [
        "videos: 2 of the 5 videos of the sheet are there",
        "  train: 2 of 4 (all of P02, 1 of 2 of P01, none of P03)",
        "  val: 0 of 1 (none of P03)",
    ]


def test_all_or_nothing_is_one_line():
    everything = {video.video_id for video in VIDEOS}
    (line,) = on_disk_lines(VIDEOS, everything, "videos")
    assert line == "videos: all 5 videos of the sheet are there"
    (line,) = on_disk_lines(VIDEOS, set(), "videos")
    assert line == "videos: none of the 5 videos of the sheet are there"
