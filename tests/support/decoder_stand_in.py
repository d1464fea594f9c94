"""One participant's short videos, and a process that stands in for a decoder or an encoder."""

import sys
from pathlib import Path

from epic100.video.sheet import Video

FRAMES = 90
SECONDS = FRAMES * 1001 / 30000


class House:
    """`count` videos of the bytes `video` in `folder`, and a program `stand_in` of the text given,
    which adds a line a run to the file `runs` in `counted`."""

    def __init__(self, folder: Path, video: bytes, count: int, stand_in: str, counted: Path):
        self.folder = folder
        self.videos = [
            Video(f"P01_{n:02d}", "P01", "train", 30000 / 1001, SECONDS)
            for n in range(1, count + 1)
        ]
        self.lines: list[str] = []
        self._counted = counted / "runs"
        program = folder / "stand_in.py"
        program.write_text(stand_in)
        self.stand_in = (sys.executable, str(program))
        for each in self.videos:
            self.path(each).parent.mkdir(exist_ok=True)
            self.path(each).write_bytes(video)

    def path(self, video: Video) -> Path:
        return video.path(self.folder)

    def runs(self) -> list[str]:
        """Videos that the stand-in was run for since the last call."""
        names = sorted(self._counted.read_text().split()) if self._counted.exists() else []
        self._counted.unlink(missing_ok=True)
        return [name.removesuffix(".MP4") for name in names]
