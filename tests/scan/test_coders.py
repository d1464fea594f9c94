"""Coders and ways of coding other than progressive H.264 with arithmetic coding."""

import shutil
from pathlib import Path

import pytest

from epic100.minikitchen.damage import flip_bits
from epic100.scan import scan_participant
from epic100.scan.worker import inspect
from epic100.video.sheet import Video
from support.damage import harmed, marked
from support.records import records_of
from support.tricky_videos import encode, two_entries

pytestmark = pytest.mark.slow


def test_flipped_bits_of_interlaced_pictures_are_found(tmp_path):
    original = encode(tmp_path / "o.MP4", 90, size=(160, 96), tff=1)
    assert inspect(original, "o")[0].judged == "full"
    changed = missed = 0
    for seed in range(24):
        path = Path(shutil.copy(original, tmp_path / "v.MP4"))
        flip_bits(path, 1 + 4 * (seed % 2), seed)
        bad = harmed(original, path)
        row, _ = inspect(path, "v")
        changed += len(bad)
        missed += len(bad - marked(row)) if row.readable else 0
    assert changed > 500 and missed <= changed / 200


@pytest.mark.parametrize(
    ("kind", "judged"),
    [
        ("b_frames", "full"),
        ("interlaced", "full"),
        ("10_bit", "full"),
        ("headers_in_stream", "full"),
        ("cavlc", "decoder only"),
        ("hevc", "decoder only"),
        ("mpeg4", "decoder only"),
        ("matroska", "full"),
    ],
)
def test_each_row_has_what_it_was_judged_by(kind, judged, sound):
    assert inspect(sound[kind], "v")[0].judged == judged
    assert inspect(sound[kind], "v", quick=True)[0].judged == "quick"


def test_a_part_without_arithmetic_coding_is_judged_by_the_decoder_only(tmp_path):
    parts = [encode(tmp_path / f"{n}.MP4", 60, cabac=n) for n in (1, 0)]
    row, _ = inspect(two_entries(parts, tmp_path / "v.MP4"), "v")
    assert (row.status, row.judged) == ("ok", "decoder only")


def test_the_log_names_the_videos_that_are_judged_by_their_decoder_only(sound, tmp_path):
    videos = [Video(f"P01_0{n}", "P01", "train", 29.97, 4.004) for n in range(2)]
    (tmp_path / "P01").mkdir()
    for video, kind in zip(videos, ("b_frames", "mpeg4"), strict=True):
        shutil.copy(sound[kind], video.path(tmp_path))
    with records_of("epic100.scan.participant") as lines:
        rows = scan_participant(videos, tmp_path, tmp_path / "P01.tsv", tmp_path / "P01.index.npz")
    assert [row.judged for row in rows] == ["full", "decoder only"]
    assert (
        "1 videos are judged by their decoder only, which misses some spoilt bits: P01_01" in lines
    )
