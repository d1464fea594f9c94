"""Make small undamaged videos of types that mislead scans and readers, and files of frames.

No test is here.
"""

import itertools
import struct
import tarfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from epic100.minikitchen.damage import coded_data
from support.damage import number_at, overwrite, packets_of, place_of
from support.packets import CodedFrame, later, rewrite, write_film

RATE = Fraction(30000, 1001)


def draw_frames(count: int, size: tuple[int, int] = (96, 64), seed: int = 0):
    """Draw frames uint8 [height, width, 3] of a grainy texture that drifts, no two alike."""
    rng = np.random.default_rng(seed)
    width, height = size
    base = rng.integers(0, 200, (height // 8 + 2, width // 8 + 40, 3), np.uint8)
    base = base.repeat(8, axis=0).repeat(8, axis=1)
    grain = rng.integers(0, 12, (height * 2, width * 2, 1), np.uint8)
    for i in range(count):
        x, y = rng.integers(0, width), rng.integers(0, height)
        shift = 2 * i % (38 * 8)
        yield base[:height, shift : shift + width] + grain[y : y + height, x : x + width]


def encode(
    path: Path,
    count: int = 120,
    size: tuple[int, int] = (96, 64),
    times: list[int] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    movflags: str = "",
    seed: int = 0,
    source=None,
    x265: dict | None = None,
    unit: int = 0,
    **params: str | int,
) -> Path:
    """Encode a video, by default with x264 at 29.97 frames a second.

    Args:
        path: The file to write.
        count: The number of frames.
        size: Width and height in pixels.
        times: The times of the frames in 1/30000 s; None means 29.97 frames a second.
        codec: FFmpeg's name of the encoder.
        pix_fmt: FFmpeg's name of the format of pixels.
        movflags: An option of the muxer of MP4.
        seed: The seed of the frames.
        source: Other frames.
        x265: Options of x265.
        unit: The file counts time in 1/`unit` s; 0 means the muxer's choice.
        **params: Options of x264, with `_` for `-` in their names, or of another encoder.
    """
    settings = {
        "keyint": 30,
        "bframes": 3,
        "b-adapt": 0,
        "scenecut": 0,
        # Otherwise the bytes differ from run to run, and from machine to machine.
        "threads": 1,
        "asm": 0,
        "mbtree": 0,
        "rc-lookahead": 0,
    } | {name.replace("_", "-"): value for name, value in params.items()}
    options = {"movflags": movflags} if movflags else {}
    if unit:
        options["video_track_timescale"] = str(unit)
    coder = {name: str(value) for name, value in params.items()}
    if codec == "libx264":
        text = ":".join(f"{k}={v}" for k, v in settings.items())
        # At lower rates x264 writes blocks of noise as raw samples, in which no damage shows.
        coder = {"preset": "veryfast", "crf": "26", "x264-params": text}
    elif x265 is not None:
        text = ":".join(f"{k}={v}" for k, v in x265.items())
        coder = {"x265-params": f"log-level=none:{text}"}
    return write_film(
        path,
        source or draw_frames(count, size, seed),
        size,
        RATE,
        times or itertools.count(step=1001),
        Fraction(1, 30000),
        codec,
        pix_fmt,
        muxer=options,
        coder=coder,
        # These codecs count time in frames.
        clock=1 / RATE if codec in ("mpeg1video", "mpeg2video") else None,
    )


def cut_start(path: Path, out: Path, frames: int, hide: bool = True) -> Path:
    """Cut without encoding, as `ffmpeg -ss` with `-c copy`: from the key frame before on.

    Frames before frame number `frames` stay in the file, hidden by an edit list; without `hide`
    the file starts at its key frame and shows what leads it.
    """

    def change(packets: list[CodedFrame]) -> list[CodedFrame]:
        start = sorted(p.pts for p in packets)[frames]
        first = max(i for i, p in enumerate(packets) if p.is_key and p.pts <= start)
        rest = packets[first:]
        return later(rest, -(start if hide else min(p.pts for p in rest)))

    rewrite(path, change, out, avoid_negative_ts="disabled" if hide else "auto")
    return out


def cut_end(path: Path, share: float) -> Path:
    """Let the edit list show only the first `share` of the video."""
    edit = place_of(path, "elst")
    assert number_at(path, edit) == 0 and number_at(path, edit + 4) == 1
    length = round(number_at(path, edit + 8) * share)
    overwrite(path, edit + 8, length)
    # The track lasts as long as its edits do.
    return overwrite(path, place_of(path, "tkhd") + 20, length)


def two_streams(path: Path, count: int = 60) -> Path:
    """Encode a file of two video streams: a small one first, then a larger one."""
    with av.open(str(path), "w") as container:
        streams = []
        for size in ((64, 48), (128, 96)):
            stream = container.add_stream("libx264", rate=RATE)
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            streams.append((stream, draw_frames(count, size, seed=size[0])))
        for _ in range(count):
            for stream, source in streams:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(next(source)), "rgb24")
                container.mux(stream.encode(frame))
        for stream, _ in streams:
            container.mux(stream.encode(None))
    return path


def audio_only(path: Path, seconds: float = 1.0) -> Path:
    """Encode a file of a tone, without video."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        wave = np.sin(np.arange(int(seconds * 16000)) * 0.1).astype(np.float32)[None] * 0.2
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def join(parts: list[Path], out: Path) -> Path:
    """Join files one after the other, without encoding."""
    packets = []
    end = 0
    for part in parts:
        frames = packets_of(part)
        times = sorted(p.pts for p in frames)
        delay = end - times[0]
        packets += [
            CodedFrame(bytes(p), p.pts + delay, p.dts + delay, p.is_keyframe) for p in frames
        ]
        end = delay + times[-1] + int(np.median(np.diff(times)))
    rewrite(parts[0], lambda _: packets, out)
    return out


def parts_of(folder: Path, *options: dict) -> list[Path]:
    """Encode a video with each of these options, of other frames each, to be joined."""
    return [
        encode(folder / f"part{n}.MP4", **{"count": 60, "seed": n, **chosen})
        for n, chosen in enumerate(options)
    ]


def put_box(data: bytearray, box: bytes, content: bytes, around: bytes, start: int) -> None:
    """Replace the content of a box of an MP4.

    Args:
        data: The bytes of the file.
        box: The name of the box, such as `b"elst"`.
        content: The new content.
        around: The names of the boxes that the box is in, whose sizes change as well.
        start: Where the index (moov) begins.
    """
    at = data.index(box, start) - 4
    size = int.from_bytes(data[at : at + 4], "big")
    data[at : at + size] = numbers(len(content) + 8) + box + content
    for name in around.split():
        at = data.index(name, start - 8) - 4
        grown = int.from_bytes(data[at : at + 4], "big") + len(content) + 8 - size
        data[at : at + 4] = numbers(grown)


def numbers(*values: int) -> bytes:
    """Write numbers as MP4 has them: four bytes each, the highest one first."""
    return struct.pack(f">{len(values)}I", *values)


def show_parts(path: Path, parts: list[tuple[int | None, int]], out: Path) -> Path:
    """Let the edit list show only parts of a file of `encode`.

    A part is its first frame (None: nothing is shown) and its number of frames.
    """
    data = bytearray(path.read_bytes())
    start, _ = coded_data(path, "moov")
    # The edit list of the file has one entry: the time of its first frame is at byte 12.
    delay = number_at(path, place_of(path, "elst") + 12)
    # An entry has its length in ms, the time of its first frame (-1: none), and the speed 1.
    rows = [
        (
            round(count * 1000 * 1001 / 30000),
            2**32 - 1 if first is None else delay + first * 1001,
            1 << 16,
        )
        for first, count in parts
    ]
    put_box(data, b"elst", numbers(0, len(rows), *sum(rows, ())), b"moov trak edts", start)
    out.write_bytes(data)
    return overwrite(out, place_of(out, "tkhd") + 20, sum(row[0] for row in rows))


def two_entries(parts: list[Path], out: Path) -> Path:
    """Join two videos, each of which keeps its own sample entry (ISO 14496-12, 8.5.2)."""
    join(parts, out)
    entries = b""
    for part in parts:
        at = place_of(part, "stsd") + 8
        entries += part.read_bytes()[at : at + number_at(part, at)]
    first, second = (len(packets_of(part)) for part in parts)
    places = [p.pos for p in packets_of(out)]
    data = bytearray(out.read_bytes())
    start, _ = coded_data(out, "moov")
    for name, content in (
        (b"stsd", numbers(0, 2) + entries),
        (b"stsc", numbers(0, 2, 1, first, 1, 2, second, 2)),
        (b"stco", numbers(0, 2, places[0], places[first])),
    ):
        put_box(data, name, content, b"moov trak mdia minf stbl", start)
    out.write_bytes(data)
    return out


# These are the upper left of the matrix of a track: turns by 0 to 270 degrees, and a mirror.
QUARTERS = ((1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0))
MIRROR = (-1, 0, 0, 1)


def turn(path: Path, how: tuple[int, int, int, int] = QUARTERS[1]) -> None:
    """Let players turn the frame, by default by 90 degrees as of a phone held upright."""
    # Numbers of the matrix are in units of 1/65536, but the last one is in units of 1/2**30.
    a, b, c, d = (value << 16 for value in how)
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 64 << 16, 0, 1 << 30)
    overwrite(path, place_of(path, "tkhd") + 40, matrix)


def uneven_times(count: int) -> list[int]:
    """Draw times of frames in 1/30000 s, with steps from half to two and a half usual ones."""
    return np.cumsum(np.random.default_rng(3).integers(500, 2500, count)).tolist()


PYRAMID = {"b-pyramid": "normal", "ref": 4}
# Each type of undamaged file has options of `encode`.
FILE_TYPES: dict[str, dict] = {
    "b_frames": PYRAMID,
    "open_gop": {"open-gop": 1, "b-pyramid": "normal"},
    "index_first": {"movflags": "faststart"},
    "fragmented": {"movflags": "frag_keyframe+empty_moov"},
    "fragmented_default_base": {"movflags": "frag_keyframe+default_base_moof+delay_moov"},
    "no_b_frames": {"bframes": 0},
    "all_key_frames": {"keyint": 1},
    "one_key_frame": {"keyint": 1000},
    "intra_refresh": {"intra-refresh": 1, "bframes": 0},
    "cavlc": {"cabac": 0},
    "slices": {"slices": 4},
    "weighted": {"weightp": 2, "weightb": 1, "direct": "temporal"},
    "interlaced": {"tff": 1},
    "headers_in_stream": {"repeat-headers": 1, "aud": 1},
    "odd_size": {"size": (102, 58)},
    "wide": {"size": (640, 16), "count": 60},
    "444": {"pix_fmt": "yuv444p"},
    "full_range": {"pix_fmt": "yuvj420p"},
    "10_bit": {"pix_fmt": "yuv420p10le"},
    "lossless": {"qp": 0},
    "ten_frames": {"count": 10},
    "one_frame": {"count": 1},
    "variable_rate": {"times": uneven_times(120)},
    "two_rates": {"times": [i * 1001 - max(i - 60, 0) * 501 for i in range(120)]},
    "paused": {"times": [i * 1001 + (30000 if i > 57 else 0) for i in range(200)]},
    "late_start": {"times": [20000 + i * 1001 for i in range(120)]},
    "mpeg4": {"codec": "mpeg4"},
    "hevc": {"codec": "libx265", "count": 40, "x265": {}},
    "other": {"seed": 5, **PYRAMID},
    "still": {"source": [next(draw_frames(1))] * 150},
    "black": {"source": [np.zeros((64, 96, 3), np.uint8)] * 150},
}


def undamaged_videos(folder: Path) -> dict[str, Path]:
    """Encode an undamaged file of every type; return their paths by name."""
    made = {
        name: encode(folder / f"{name}.MP4", **{"count": 120, **options})
        for name, options in FILE_TYPES.items()
    }

    def path(name: str) -> Path:
        """Add the path of one more file, and return it."""
        made[name] = folder / f"{name}.MP4"
        return made[name]

    plain, opened = made["b_frames"], made["open_gop"]
    made["quicktime"] = folder / "quicktime.mov"
    rewrite(plain, lambda packets: packets, made["quicktime"])
    cut_start(plain, path("cut_start"), 45)
    cut_start(opened, path("cut_open_gop"), 45)
    cut_start(opened, path("cut_at_open_key"), 60)
    cut_start(plain, path("negative_first_pts"), 31)
    cut_end(encode(path("cut_end")), 0.6)
    two_streams(path("two_streams"))
    join([plain, made["other"]], path("joined"))
    return made


def write_frames(folder: Path, frames: Iterable[np.ndarray]) -> Path:
    """Write `frame_0000000001.jpg` and so on into a folder, of RGB frames, and return it."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, start=1):
        cv2.imwrite(str(frame_file(folder, number - 1)), frame[..., ::-1])
    return folder


def frame_file(folder: Path, frame: int) -> Path:
    """The file of a frame, from 0 on."""
    return folder / f"frame_{frame + 1:010d}.jpg"


def pack(folder: Path, order: int = 1) -> Path:
    """Put a folder of frames into the tar of its name, by their names (-1: in reverse)."""
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.iterdir())[::order]:
            tar.add(file, f"./{folder.name}/{file.name}")
    return path
