"""How videos are scanned, cleaned and copied."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from epic100.settings.section import Section, key
from epic100.settings.values import FilePath

# Raise it when the scan finds more, or its index changes, so that every video is scanned again.
SCAN_VERSION = 7

SECONDS_PER_SECOND = 2


class ScanLimits(Section):
    """Limits on the time and memory for one video, so that no file can hang a scan."""

    gone: ClassVar[Mapping[str, str]] = {"seconds_per_second": "raise `scan: min_seconds:`"}

    stall_seconds: float = key(60, "a video is given up after this time without a frame", gt=0)
    min_seconds: float = key(
        300, "every video may take this time, and two seconds more for each of its seconds", gt=0
    )
    memory_mib: int = key(3072, "address space of one decoder in MiB; 0: no limit", ge=0)
    max_pixels: int = key(
        16777216, "pixels of the largest frame that is decoded; larger ones are unreadable", ge=1
    )

    def total(self, seconds: float) -> float:
        """Return how many seconds the work on a video of this length may take."""
        return self.min_seconds + SECONDS_PER_SECOND * seconds


class Cleaning(Section):
    """What to do with damaged videos."""

    policy: Literal["segment", "video"] = key(
        "segment", "drop segments that touch damaged frames; `video`: the complete video"
    )


# Frames of a copy on which no other depends, in a row. Frames that are not wanted are not decoded.
B_FRAMES = 5


class ProxySettings(Section):
    """Small copies with key frames close together, to read clips from (docs/data.md)."""

    gone: ClassVar[Mapping[str, str]] = {"b_frames": "copies have five B-frames in a row"}

    height: int = key(
        256, "pixels (of upright frames, the width); a smaller original keeps its own", ge=16
    )
    gop: int = key(30, "frames from key frame to key frame", ge=1)
    crf: float = key(18, "x264's rate factor, lower is better and larger", ge=0, le=51)
    root: FilePath = key(
        "results/proxies",
        "copies are at {root}/{participant_id}/{video_id}.MP4",
        of_inputs=True,
    )

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) of a copy: in proportion, even, never above the original's.

        A side that is 1 pixel long or rounds to 0 becomes 2, the smallest even number.
        """
        scale = min(1.0, self.height / min(width, height))
        copy_width = max(2, 2 * round(width * scale / 2))
        copy_height = max(2, 2 * round(height * scale / 2))
        return copy_width, copy_height

    def options(self) -> dict[str, str]:
        """Return the options of libx264.

        There are always that many B-frames (b-adapt=0), and none depends on another
        (b-pyramid=none).
        """
        b_frames = f"bframes={B_FRAMES}:b-adapt=0:b-pyramid=none"
        return {
            "preset": "veryfast",
            "tune": "fastdecode",
            "crf": str(self.crf),
            "threads": "1",
            "a53cc": "0",
            "x264-params": f"keyint={self.gop}:min-keyint=1:scenecut=0:{b_frames}:open-gop=0",
        }
