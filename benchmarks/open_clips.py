"""What a clip costs beyond decoding its packets, when its file is not open.

    python benchmarks/open_clips.py [VIDEO ...] [--clips 60] [--minutes 20]

Without a video it makes one of 640x360, as `read_clips.py` does, and a copy as the rule proxy makes
it. All ways read the same clips of 13 frames x 6, in turn, in one process; times are CPU time.

- floor: a bare decoder gets the packets of the clip from memory, key frame to last wanted frame. It
  skips what no wanted picture needs, as the reader does, and converts nothing.
- floor, all packets: the same without skipping.
- converted: the floor, and the wanted pictures as RGB in their own size.
- by place: the reader, made anew for each clip, with the index in memory and files kept open.
- by place, file opened: the same without kept files.
- container kept: FFmpeg's demuxer in an open file.
- container, new: the file opened, its index read and its rate measured for each clip, as it was
  before packets were read by their places.

Frames must be equal. The last line is one JSON object.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from read_clips import CLIP, INTERVAL, WARM_UP, copy_of, random_starts

from epic100.video.index import VideoIndex, build_index
from epic100.video.index_file import load_index, write_indexes
from epic100.video.kept import Decoders, Kept, OpenFiles
from epic100.video.loaded_indexes import LoadedIndexes
from epic100.video.reader import VideoReader

Read = Callable[[list[int]], np.ndarray | None]


class Floor:
    """A bare decoder that gets the packets of a clip from memory."""

    def __init__(self, path: Path, index: VideoIndex, skips: bool, converts: bool):
        self._data, self._index = memoryview(path.read_bytes()), index
        self._skips, self._converts = skips, converts
        table = index.table
        assert table is not None
        self._table = table
        self._decoder = Decoders().get(table.stream, table.sets[0], known=True)
        self._reformatter = VideoReformatter()
        self._groups: dict[int, list[tuple[int, int, int]]] = {}

    def prepare(self, frames: list[int]) -> None:
        """Find the packets, which is no part of the floor."""
        pts = self._index.pts[frames]
        key = int(np.searchsorted(self._index.key_pts, pts[0], side="right")) - 1
        start = int(self._table.key_packet[key])
        group = self._table.stretch(start, min(start + 1000, len(self._table)))
        stop = int(np.flatnonzero(np.isin(group.pts, pts)).max()) + 1
        columns = (group.offset[:stop], group.size[:stop], group.pts[:stop])
        self._groups[frames[0]] = list(zip(*(c.tolist() for c in columns), strict=True))

    def __call__(self, frames: list[int]) -> np.ndarray | None:
        """Decode a clip; its pictures if they are converted."""
        wanted = set(self._index.pts[frames].tolist())
        decoder, found = self._decoder, {}
        decoder.flush_buffers()
        decoder.skip_frame = "DEFAULT"
        for offset, size, pts in self._groups[frames[0]]:
            packet = av.Packet(self._data[offset : offset + size])
            packet.pts = pts
            if self._skips:
                decoder.skip_frame = "DEFAULT" if pts in wanted else "NONREF"
            for frame in decoder.decode(packet):
                if self._converts and frame.pts in wanted:
                    found[frame.pts] = self._convert(frame)
        for frame in decoder.decode(None):
            if self._converts and frame.pts in wanted:
                found[frame.pts] = self._convert(frame)
        return np.stack([found[pts] for pts in sorted(found)]) if found else None

    def _convert(self, frame: av.VideoFrame) -> np.ndarray:
        size = frame.width, frame.height
        rgb = self._reformatter.reformat(frame, *size, "rgb24", threads=1)
        lines = np.frombuffer(memoryview(rgb.planes[0]), np.uint8).reshape(frame.height, -1)
        return lines[:, : 3 * frame.width].reshape(frame.height, frame.width, 3)


def ways_of(path: Path, folder: Path) -> dict[str, Read]:
    """A function from frame numbers to frames by way."""
    index = build_index(path)
    indexes = folder / "P01.index.npz"
    write_indexes({path.stem: index}, indexes)
    loaded, kept = LoadedIndexes(folder), Kept()
    place = f"P01/{path.name}"
    open_container = VideoReader(path, index.through_container())

    def by_place(frames: list[int]) -> np.ndarray:
        return VideoReader(path, loaded.find(place), kept=kept).get_frames(frames)

    def opened(frames: list[int]) -> np.ndarray:
        one = Kept(OpenFiles(1), kept.decoders)
        reader = VideoReader(path, loaded.find(place), kept=one)
        try:
            return reader.get_frames(frames)
        finally:
            one.files.close()

    def new(frames: list[int]) -> np.ndarray:
        found = load_index(indexes, path.stem)
        reader = VideoReader(path, found.through_container() if found else None)
        try:
            return reader.get_frames(frames)
        finally:
            reader.close()

    return {
        "floor": Floor(path, index, skips=True, converts=False),
        "floor, all packets": Floor(path, index, skips=False, converts=False),
        "converted": Floor(path, index, skips=True, converts=True),
        "by place": by_place,
        "by place, file opened": opened,
        "container kept": open_container.get_frames,
        "container, new": new,
    }


def measure(path: Path, clips: list[list[int]], folder: Path) -> dict[str, float]:
    """CPU ms a clip by way; frames of all ways that convert are compared."""
    ways = ways_of(path, folder)
    for way in ways.values():
        if isinstance(way, Floor):
            for clip in clips:
                way.prepare(clip)
    spent = dict.fromkeys(ways, 0.0)
    for number, clip in enumerate(clips):
        pictures = []
        for name, read in ways.items():
            began = time.process_time()
            found = read(clip)
            if number >= WARM_UP:
                spent[name] += time.process_time() - began
            if found is not None:
                pictures.append(found)
        assert all(np.array_equal(pictures[0], other) for other in pictures[1:])
    return {name: 1e3 * seconds / (len(clips) - WARM_UP) for name, seconds in spent.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=20)
    options = parser.parse_args()
    found: dict = {"date": time.strftime("%Y-%m-%d")}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.videos:
            from camera_video import write_camera_video

            options.videos = [folder / "camera.MP4"]
            write_camera_video(options.videos[0], options.minutes)
            options.videos.append(copy_of(options.videos[0], folder))
        for path in options.videos:
            starts = random_starts(path, options.clips)
            clips = [list(range(s, s + CLIP * INTERVAL, INTERVAL)) for s in starts]
            spent = measure(path, clips, folder)
            print(f"\n{path.name}, {path.stat().st_size / 1e6:.0f} MB, {options.clips} clips")
            for way, ms in spent.items():
                print(f"{way:<24}{ms:>8.2f} CPU ms{ms / spent['floor']:>8.2f} of the floor")
            found[path.name] = {way: round(ms, 2) for way, ms in spent.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
