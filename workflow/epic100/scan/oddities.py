"""Hints of a scan: what is unusual about a video but not damage. They never mark a picture.

phrase (each after `hint: `)                      what was seen
------------------------------------------------- ----------------------------------------------
frozen A-B, black A-B                             frames that stay the same or dark for 2 s
the rate changes from X to Y fps at frame N       both last for a second or more
N pauses, no picture lost                         steps over 1.5 times the usual, numbers complete
N key frames are marked wrongly                   by the container; the decoder disagrees
the container is X, not MP4                       it is readable all the same
it lasts X s, the sheet says Y s                  over half a second apart (`epic100.scan`)
"""

import av
import numpy as np

from epic100.scan.damage import GAP, are_few
from epic100.video.index import VideoIndex
from epic100.video.scan_table import ranges_of

FROZEN, BLACK = "frozen", "black"
LOOK_EVERY = 16  # every how many pictures one is checked
GRID = 48  # luma samples per direction
SECONDS = 2.0
SAME = 4  # of 255; an encoder keeps refining a still picture
DARK = 40  # all luma of a black picture is below this
SHEET_SECONDS = 0.5
_SAID = 3  # ranges that are listed one by one
_WINDOW = 32  # pictures over which a rate is measured


class Looks:
    """Compares every 16th picture with the previous one it checked, in presentation order."""

    def __init__(self) -> None:
        self._count = 0
        self._before: tuple[int, np.ndarray, bool] | None = None  # pts, sample, whether it is dark
        # From pts to pts, where the two pictures are the same, or both dark.
        self._stretches: dict[str, list[tuple[int, int]]] = {FROZEN: [], BLACK: []}

    def see(self, frame: av.VideoFrame, height: int) -> None:
        """Take in a decoded picture.

        Args:
            frame: The picture. Only every 16th is checked, and only 8-bit planar ones.
            height: True height in pixels; the coded picture may be taller.
        """
        self._count += 1
        if (
            self._count % LOOK_EVERY
            or frame.pts is None
            or frame.format.name not in ("yuv420p", "yuvj420p")
        ):
            return
        plane = frame.planes[0]
        luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        rows, columns = height // GRID + 1, frame.width // GRID + 1
        sample = luma[:height:rows, : frame.width : columns].astype(np.int16)
        is_dark = bool(sample.max() < DARK)
        if self._before is not None:
            start, before, was_dark = self._before
            if sample.shape == before.shape and np.abs(sample - before).max() <= SAME:
                self._stretches[FROZEN].append((start, frame.pts))
            if is_dark and was_dark:
                self._stretches[BLACK].append((start, frame.pts))
        self._before = frame.pts, sample, is_dark

    def frames(self, index: VideoIndex, word: str) -> np.ndarray:
        """bool [F]: frames between two checked pictures that are `FROZEN` or `BLACK`."""
        frames = np.zeros(index.frames, dtype=bool)
        for stretch in self._stretches[word]:
            first, last = np.searchsorted(index.pts, stretch)
            frames[first : last + 1] = True
        return frames


def hints(
    index: VideoIndex, sound: np.ndarray, looks: Looks, wrong_keys: int, container: str
) -> list[str]:
    """All hints except that about the sheet's length.

    Args:
        index: The index.
        sound: bool [F]: the undamaged frames. Only pauses before these count.
        looks: What the pictures look like.
        wrong_keys: How many the container takes for key frames, and are none.
        container: FFmpeg's names of its format.
    """
    found = []
    for word in (FROZEN, BLACK):
        marks = looks.frames(index, word)
        stretches = [r for r in ranges_of(marks) if (r[1] - r[0]) >= SECONDS * index.fps > 0]
        if stretches:
            shown = ", ".join(f"{a}-{b}" for a, b in stretches[:_SAID])
            more = len(stretches) - _SAID
            found.append(f"hint: {word} {shown}" + (f" and {more} more" if more > 0 else ""))
    if change := _rate_change(index):
        found.append(change)
    if wrong_keys:
        found.append(f"hint: {wrong_keys} key frames are marked wrongly")
    if "mp4" not in container.split(","):
        found.append(f"hint: the container is {container}, not MP4")
    if pauses := _pauses(index, sound):
        found.append(f"hint: {pauses} pauses, no picture lost")
    return found


def sheet_hint(seconds: float, promised: float) -> str:
    """The hint about a length that differs from the sheet's (both in seconds), or ""."""
    if abs(seconds - promised) <= SHEET_SECONDS:
        return ""
    return f"hint: it lasts {seconds:.1f} s, the sheet says {promised:.1f} s"


def _rate_change(index: VideoIndex) -> str:
    """Describe the first place where a steady rate differs from the steady rate before, or ""."""
    steps = np.diff(index.pts)
    windows = len(steps) // _WINDOW
    if windows < 2 or index.is_constant():
        return ""
    steps = steps[: windows * _WINDOW].reshape(windows, _WINDOW)
    usual = np.median(steps, axis=1)
    steady = (np.abs(steps - usual[:, None]) <= np.maximum(0.1 * usual[:, None], 1)).all(axis=1)
    rates = 1 / (np.maximum(usual, 1) * float(index.time_base))
    kept = np.flatnonzero(steady)
    changes = np.flatnonzero(np.abs(rates[kept[1:]] / rates[kept[:-1]] - 1) > 0.1)
    if not len(changes):
        return ""
    before, after = kept[changes[0] : changes[0] + 2]
    return (
        f"hint: the rate changes from {rates[before]:.2f} to {rates[after]:.2f} fps "
        f"at about frame {after * _WINDOW}"
    )


def _pauses(index: VideoIndex, sound: np.ndarray) -> int:
    """How many long steps a file of steady rate has."""
    steps = np.diff(index.pts)
    long = steps > GAP * np.median(steps) if len(steps) else steps
    return int((long & sound[1:]).sum()) if are_few(long.sum(), len(long)) else 0
