"""How copies and clips are encoded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PictureSettings:
    """What decides the pictures of a copy or a clip.

    `height`: of the pictures, in pixels (their width if they are upright); never above the
    original's. `gop`: pictures from one key frame to the next. `crf`: x264's constant rate factor.
    """

    height: int = 256
    gop: int = 60
    crf: float = 23

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) of the copy: in proportion, even, never above the original's."""
        scale = min(1.0, self.height / min(width, height))
        across, down = (max(2, 2 * round(side * scale / 2)) for side in (width, height))
        return across, down

    def options(self) -> dict[str, str]:
        """Return the options of libx264."""
        x264 = f"keyint={self.gop}:min-keyint=1:scenecut=0:{self._between()}:open-gop=0"
        return {
            "preset": "veryfast",
            "crf": str(self.crf),
            "threads": "1",
            "a53cc": "0",
            "x264-params": x264,
        }

    def _between(self) -> str:
        """Return x264's options about B-frames."""
        return "bframes=0"


@dataclass(frozen=True)
class ProxySettings(PictureSettings):
    """The settings of `videos: proxy:` that decide the pictures of a copy.

    `b_frames`: pictures between two reference pictures. No picture depends on them, so that the
    reader skips those that are not wanted.
    """

    gop: int = 30
    crf: float = 18
    b_frames: int = 5

    def options(self) -> dict[str, str]:
        """Return the options of libx264: those of clips, but fast to decode."""
        return super().options() | {"tune": "fastdecode"}

    def _between(self) -> str:
        """Always as many as set (b-adapt=0), and never references of each other (b-pyramid)."""
        if not self.b_frames:
            return super()._between()
        return f"bframes={self.b_frames}:b-adapt=0:b-pyramid=none"


@dataclass(frozen=True)
class ClipSettings(PictureSettings):
    """The `clips:` section of the config: as for copies, and `max_kbit`.

    `max_kbit`: most kilobits a second that a clip takes, with half a second of them to spare at its
    beginning; None is no limit.
    """

    max_kbit: int | None = None

    def options(self) -> dict[str, str]:
        """Return the options of libx264."""
        options = super().options()
        if self.max_kbit is not None:
            options |= {"maxrate": f"{self.max_kbit}k", "bufsize": f"{max(1, self.max_kbit // 2)}k"}
        return options
