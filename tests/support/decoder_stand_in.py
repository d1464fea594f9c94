"""One participant's short videos, and their scan by a decoder that does what it is ordered to."""

from pathlib import Path

from epic100.scan import scan_participant
from epic100.scan.worker import scan_file
from epic100.video.sheet import Video
from support.bad_decoders import Orders
from support.this_process import records_of

FRAMES = 90
SECONDS = FRAMES * 1001 / 30000


class House:
    """`count` videos of the bytes `video` below `folder`, from P01_01 on."""

    def __init__(self, folder: Path, video: bytes, count: int):
        self.folder, self.orders = folder, Orders(folder / "orders", scan_file)
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
        """What the decoder does to a video, now and at later calls: see `Orders`."""
        self.orders.give(self.videos[number].video_id, *names)

    def scan(self, **options):
        """The rows; `lines` has what was said."""
        options = {"scan": self.orders.function, **options}
        with records_of("epic100.scan.participant") as self.lines:
            return scan_participant(self.videos, self.folder, self.table, self.index, **options)

    def runs(self) -> list[str]:
        """Videos that the decoder was run for since the last call."""
        return self.orders.runs()

    def kept(self) -> list[str]:
        """Videos with a result in the cache."""
        return sorted(path.stem for path in self.cache.glob("*.npz"))
