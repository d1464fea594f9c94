"""One participant's short videos, and their scan by a decoder that does what it is ordered to."""

import sys
from pathlib import Path

from epic100.scan import scan_participant
from epic100.video.sheet import Video
from support import bad_decoders
from support.records import records_of

FRAMES = 90
SECONDS = FRAMES * 1001 / 30000
DECODER = (sys.executable, "-P", bad_decoders.__file__)


class House:
    """`count` videos of the bytes `video` below `folder`, from P01_01 on."""

    def __init__(self, folder: Path, video: bytes, count: int):
        self.folder, self._runs = folder, folder / "runs"
        self.table, self.index = folder / "scan/P01.tsv", folder / "scan/P01.index.npz"
        self.cache = folder / "scan/cache/P01"
        self.videos = [
            Video(f"P01_{n:02d}", "P01", "train", 30000 / 1001, SECONDS)
            for n in range(1, count + 1)
        ]
        self.lines: list[str] = []
        (folder / "P01").mkdir(parents=True)
        for path in self.paths:
            path.write_bytes(video)

    @property
    def paths(self) -> list[Path]:
        return [video.path(self.folder) for video in self.videos]

    def order(self, number: int, *names: str) -> None:
        """What the decoder does to a video, now and at later calls: `bad_decoders.obey`."""
        self.paths[number].with_suffix(".order").write_text(" ".join(names))

    def scan(self, **options):
        """The rows; `lines` has what was said."""
        options = {"worker": (*DECODER, "obey"), **options}
        with records_of("epic100.scan.participant") as self.lines:
            return scan_participant(self.videos, self.folder, self.table, self.index, **options)

    def runs(self) -> list[str]:
        """Videos that the decoder was run for since the last call."""
        names = sorted(self._runs.read_text().split()) if self._runs.exists() else []
        self._runs.unlink(missing_ok=True)
        return names

    def kept(self) -> list[str]:
        """Videos with a result in the cache."""
        return sorted(path.name.split(".")[0] for path in self.cache.glob("*.npz"))
