"""The short videos of a participant, and their scan by a decoder that follows orders."""

from pathlib import Path

from epic100.scan.participant import scan_participant
from epic100.scan.worker import scan_file
from epic100.video.sheet import Video
from support.bad_decoders import Orders
from support.this_process import records_of

# The short video has three seconds of 30000 / 1001 frames.
FRAMES = 90
SECONDS = FRAMES * 1001 / 30000


class ShortVideos:
    """A folder with copies of one short video, P01_01 and so on, and their scan.

    Attributes:
        orders: The orders of the decoder.
        table: The scan table.
        index: The file of the indexes.
        cache: The folder of the results by video, which a later scan does not make again.
        lines: The lines that the last scan logged.
    """

    def __init__(self, folder: Path, video: bytes, count: int):
        """Write `count` copies of the bytes of a video."""
        self.folder = folder
        self.orders = Orders(folder / "orders", scan_file)
        self.table = folder / "scan/P01.tsv"
        self.index = folder / "scan/P01.index.npz"
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
        """The paths of the videos."""
        return [video.path(self.folder) for video in self.videos]

    def order(self, number: int, *names: str) -> None:
        """Give the decoder orders about a video, one for each call: see `Orders.give`."""
        self.orders.give(self.videos[number].video_id, *names)

    def scan(self, **options):
        """Scan all videos, put what the scan logs into `lines`, and return the rows."""
        options = {"scan": self.orders.function, **options}
        with records_of("epic100.scan.participant") as self.lines:
            return scan_participant(self.videos, self.folder, self.table, self.index, **options)

    def runs(self) -> list[str]:
        """List the videos that were decoded since the last call of this method."""
        return self.orders.runs()

    def kept(self) -> list[str]:
        """List the videos with a result in the cache."""
        return sorted(path.stem for path in self.cache.glob("*.npz"))
