"""The archive benchmark in miniature: real files, every way of reading them, the same frames."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from epic100.video.reader import VideoReader
from support.checkout import ROOT
from support.decoders import needs_decord

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The module, and a folder with two files of six seconds."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("archive", ROOT / "benchmarks/archive.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("archive")
    module.make_archive(folder, 2, 0.1, (96, 54))
    yield module, folder
    sys.path.remove(str(ROOT / "benchmarks"))


def test_files_have_sound_the_rates_of_epic_and_copies_with_the_same_frames(archive):
    module, folder = archive
    files = json.loads((folder / "files.json").read_text())
    assert [round(rate, 2) for _, rate, _ in files["archive"]] == [59.94, 50]
    assert len(files["cut"]) == 12
    for name, rate, frames in files["archive"]:
        with module.av.open(str(folder / "original" / name)) as container:
            assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert frames == pytest.approx(6 * rate, abs=2)
    for clip in module.draw(folder, "original", module.DENSE, 5):
        assert clip.start <= min(clip.frames) and max(clip.frames) < clip.start + clip.length
    assert [c.frames for c in module.draw(folder, "copy", module.DENSE, 5)] == [
        c.frames for c in module.draw(folder, "original", module.DENSE, 5)
    ]


def test_a_file_that_is_repeated_shows_the_same_pictures_again(archive, tmp_path):
    module, folder = archive
    files = sys.modules["archive_files"]
    filmed = [folder / "filmed/0.MP4", folder / "filmed/0.sound.MP4"]
    files.repeat(filmed, tmp_path / "twice.MP4", 2)
    index = files.build_index(tmp_path / "twice.MP4")
    once = files.build_index(filmed[0]).frames
    assert index.frames == 2 * once and np.ptp(np.diff(index.pts)) == 0
    reader = VideoReader(tmp_path / "twice.MP4", index)
    first, second = reader.get_frames([7, once + 7])
    assert np.array_equal(first, second)


@needs_decord
def test_every_way_reads_the_same_frames_and_is_a_row_of_the_table(archive):
    module, folder = archive
    found = module.compare(folder, 4, 1)  # compares the checksums
    assert len(found) == 21
    for name, row in found.items():
        if "missing" not in row:
            assert row["ms"] > 0 and row["cold_ms"] > 0, name
            assert row["mb"] > 0 or not name.endswith((": ours", "stock")), name
            if name.endswith((": ours", "crop first")):  # sound, and packets of pictures not shown
                assert 0 <= row["beyond_kb"] < 64, name
    assert found["original: MMAction2 stock"]["opens"] >= 1
    assert found["copy: ours"]["opens"] == 0 < found["copy: ours, containers opened"]["opens"]
    text = module.table(found)
    assert text.count("\n") == 22 and "| original: floor |" in text
