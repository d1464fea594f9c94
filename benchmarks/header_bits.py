"""Flips each bit of the clock and the parameter sets of two videos, and scans after each.

    python benchmarks/header_bits.py [--show]

Of an MP4 these are the boxes `stts`, `mdhd` and `elst` and the H.264 sequence and picture parameter
set (SPS, PPS). One file is like that of an action camera, of 22 s, with B-frames and a rate in its
SPS; the other has none of these. Both are scanned with the rate and length of the sheet. A bit is

harmless   if all pictures are what and when they were (to half a step and a difference of 8 of 255)
reported   if each picture that is not lies in a reported range, or the file is unreadable
silent     otherwise; `alone` without other videos to compare with, `shared` with two whose
           parameter sets are the same

The last line printed is one JSON object with the silent bits by field.
"""

import argparse
import collections
import contextlib
import json
import resource
import signal
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from damage import VISIBLE

from epic100.minikitchen.damage import coded_data
from epic100.scan.parameter_checks import spoilt_sets
from epic100.scan.worker import inspect
from epic100.video.index import VideoIndex, build_index
from epic100.video.nal import Bits
from epic100.video.scan_table import UNREADABLE

PART = 16
SECONDS = 60  # a decoder that hangs is killed
CLOCK = {
    "stts": ("version", 8, "flags", 24, "entry_count", 32, "sample_count", 32, "sample_delta", 32),
    "mdhd": ("version", 8, "flags", 24, "creation_time", 32, "modification_time", 32,
             "timescale", 32, "duration", 32, "language", 16, "pre_defined", 16),
    "elst": ("version", 8, "flags", 24, "entry_count", 32, "segment_duration", 32,
             "media_time", 32, "media_rate", 32),
}  # fmt: skip
_CONVERTER = VideoReformatter()  # one of its own in each picture would take all memory


class Named(Bits):
    """Reads bits and notes to which field each belongs."""

    def __init__(self, data: bytes):
        super().__init__(data)
        self.fields = [""] * len(self.text)

    def take(self, name: str, kind: int | str) -> int:
        """Read a field of `kind` bits, or an Exp-Golomb code ("ue", "se")."""
        start = self.at
        value = self.u(kind) if isinstance(kind, int) else getattr(self, kind)()
        self.fields[start : self.at] = [name] * (self.at - start)
        return value

    def rest(self) -> list[str]:
        """The fields of all bits; what is left is the trailing bits."""
        return [name or "trailing bits" for name in self.fields]


def sps_fields(data: bytes) -> list[str]:
    """The field of each bit of a sequence parameter set without scaling lists (7.3.2.1.1)."""
    bits = Named(data)
    take = bits.take
    take("nal_unit_type", 8)
    profile = take("profile_idc", 8)
    take("constraint flags", 8), take("level_idc", 8), take("seq_parameter_set_id", "ue")
    if profile in (100, 110, 122, 244):
        take("chroma_format_idc", "ue"), take("bit_depth", "ue"), take("bit_depth", "ue")
        take("transform_bypass", 1), take("scaling_matrix_present", 1)
    take("log2_max_frame_num", "ue")
    if take("pic_order_cnt_type", "ue") == 0:
        take("log2_max_pic_order_cnt_lsb", "ue")
    take("max_num_ref_frames", "ue"), take("gaps_in_frame_num_allowed", 1)
    take("width", "ue"), take("height", "ue")
    if not take("frame_mbs_only", 1):
        take("mb_adaptive_frame_field", 1)
    take("direct_8x8_inference", 1)
    if take("cropping", 1):
        for _ in range(4):
            take("cropping", "ue")
    if take("vui_parameters_present", 1):
        _vui_fields(bits)
    return bits.rest()


def _vui_fields(bits: Named) -> None:
    take = bits.take
    if take("aspect_ratio", 1) and take("aspect_ratio", 8) == 255:
        take("aspect_ratio", 32)
    if take("overscan", 1):
        take("overscan", 1)
    if take("video_signal_type", 1):
        take("video_format", 3), take("full_range", 1)
        if take("colour_description", 1):
            take("colour primaries and transfer", 16), take("matrix_coefficients", 8)
    if take("chroma_loc", 1):
        take("chroma_loc", "ue"), take("chroma_loc", "ue")
    if take("timing_info_present", 1):
        take("num_units_in_tick", 32), take("time_scale", 32), take("fixed_frame_rate", 1)
    take("hrd", 1), take("hrd", 1), take("pic_struct_present", 1)
    if take("bitstream_restriction", 1):
        take("motion_vectors_over_pic_boundaries", 1)
        for name in ("max_bytes", "max_bits", "max_mv_length", "max_mv_length"):
            take(name, "ue")
        take("max_num_reorder_frames", "ue"), take("max_dec_frame_buffering", "ue")


def pps_fields(data: bytes) -> list[str]:
    """The field of each bit of a picture parameter set with one slice group (7.3.2.2)."""
    bits = Named(data)
    take = bits.take
    take("nal_unit_type", 8), take("pic_parameter_set_id", "ue"), take("seq_parameter_set_id", "ue")
    take("entropy_coding_mode", 1), take("bottom_field_pic_order", 1), take("slice_groups", "ue")
    take("num_ref_idx_default", "ue"), take("num_ref_idx_default", "ue")
    take("weighted_pred", 1), take("weighted_bipred", 2)
    take("pic_init_qp", "se"), take("pic_init_qs", "se"), take("chroma_qp_index_offset", "se")
    take("deblocking_filter_control", 1), take("constrained_intra_pred", 1)
    take("redundant_pic_cnt", 1)
    if not bits.is_at_end():
        take("transform_8x8_mode", 1), take("scaling_matrix_present", 1)
        take("second_chroma_qp_index_offset", "se")
    return bits.rest()


def places(path: Path) -> Iterator[tuple[str, str, int]]:
    """(box or set, field, bit of the file) of each bit that is flipped."""
    data = path.read_bytes()
    start, stop = coded_data(path, "moov")
    for box, layout in CLOCK.items():
        at = data.index(box.encode(), start, stop) + 4
        names = [name for name, size in zip(layout[::2], layout[1::2], strict=True)
                 for _ in range(size)]  # fmt: skip
        size = 8 * (int.from_bytes(data[at - 8 : at - 4], "big") - 8)
        for number in range(size):
            yield box, names[min(number, len(names) - 1)], 8 * at + number
    at = data.index(b"avcC", start, stop) + 4 + 6
    for kind, fields in (("SPS", sps_fields), ("PPS", pps_fields)):
        size = int.from_bytes(data[at : at + 2], "big")
        at += 2
        unit = data[at : at + size]
        kept = [i for i in range(size) if not (unit[i] == 3 and unit[max(i - 2, 0) : i] == b"\0\0")]
        names = dict(zip((8 * i + b for i in kept for b in range(8)),
                         fields(unit), strict=True))  # fmt: skip
        for number in range(8 * size):
            yield kind, names.get(number, "emulation prevention"), 8 * at + number
        at += size + 1


def camera(folder: Path, number: int) -> Path:
    """File 0 is as an action camera writes it, file 1 as simple encoders do."""
    path = folder / f"file{number}.MP4"
    rate, count, size = ((Fraction(60000, 1001), 1319, (160, 96)), (Fraction(25), 250, (128, 80)))[
        number
    ]
    more = "colormatrix=bt709:colorprim=bt709:transfer=bt709" if number == 0 else "bframes=0"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "30", "x264-params": f"keyint=60:{more}"}
        base = np.random.default_rng(number).integers(0, 200, (16, 64, 3), np.uint8)
        base = base.repeat(16, 0).repeat(16, 1)
        for i in range(count):
            x = 2 * i % 700
            picture = np.ascontiguousarray(base[: size[1], x : x + size[0]])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


Shown = tuple[tuple[bytes, ...], av.VideoFrame]  # planes, and the picture itself


def decode(path: Path) -> dict[int, Shown]:
    """Pictures by presentation time, as a lenient player shows them."""
    shown: dict[int, Shown] = {}
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            with contextlib.suppress(av.error.FFmpegError):
                for frame in packet.decode():
                    shown[frame.pts] = tuple(map(bytes, frame.planes)), frame
    return shown


def harm(before: Shown, after: Shown) -> float:
    """Greatest mean difference of a block of 16x16 in one of the three colours, as RGB.

    Pictures of equal planes and properties are not converted, since that is slow.
    """
    if before[0] == after[0] and _kind(before[1]) == _kind(after[1]):
        return 0.0
    try:
        one, two = (_CONVERTER.reformat(shown[1], format="rgb24", threads=1).to_ndarray()
                    .astype(np.int16) for shown in (before, after))  # fmt: skip
    except (ValueError, av.error.FFmpegError):  # a picture that no reader can convert
        return 255.0
    if one.shape != two.shape:
        return 255.0
    gap = np.abs(one - two)
    rows, columns = (size // 16 for size in gap.shape[:2])
    blocks = gap[: 16 * rows, : 16 * columns].reshape(rows, 16, columns, 16, 3)
    return float(blocks.mean(axis=(1, 3)).max())


def _kind(frame: av.VideoFrame) -> tuple:
    return (frame.format.name, frame.width, frame.height, frame.colorspace, frame.color_range,
            frame.color_primaries, frame.color_trc)  # fmt: skip


class File:
    """An undamaged file and what its pictures are and when."""

    def __init__(self, path: Path):
        self.path, self.data, self.index = path, path.read_bytes(), build_index(path)
        shown = decode(path)
        self.pictures = [shown[pts] for pts in self.index.pts.tolist()]
        self.promise = {"fps": self.index.fps, "seconds": self.index.frames / self.index.fps}

    def outcome(self, bit: int, copy: Path) -> tuple[str, str]:
        """What becomes of one flipped bit, `alone` and `shared`: harmless, reported or silent."""
        data = bytearray(self.data)
        data[bit // 8] ^= 0x80 >> bit % 8
        copy.write_bytes(data)
        signal.alarm(SECONDS)
        try:
            row, index = inspect(copy, "v", **self.promise)
            unmarked = self.unmarked(copy, index, row.damaged) if index else False
        except (MemoryError, TimeoutError):
            return "reported", "reported"
        finally:
            signal.alarm(0)
        if index is None or row.status == UNREADABLE:
            return "reported", "reported"
        if not unmarked:
            result = "reported" if row.damaged else "harmless"
            return result, result
        others = {"a": self.index, "b": self.index}
        alone, shared = ("reported" if "v" in spoilt_sets({**more, "v": index}) else "silent"
                         for more in ({}, others))  # fmt: skip
        return alone, shared

    def unmarked(self, copy: Path, index: VideoIndex, damaged: list[tuple[int, int]]) -> bool:
        """Whether a picture is not what or when it was, outside reported ranges."""
        marked = {frame for start, stop in damaged for frame in range(start, stop)}
        if marked.issuperset(range(max(index.frames, self.index.frames))):
            return False
        seen = decode(copy)
        step = 1 / self.index.fps
        for frame in range(max(index.frames, self.index.frames)):
            if frame in marked:
                continue
            if frame >= min(index.frames, self.index.frames):
                if index.frames - 1 not in marked:  # else the end is reported
                    return True
                continue
            if abs(index.times[frame] - self.index.times[frame]) > step / 2:
                return True
            before, picture = self.pictures[frame], seen.get(int(index.pts[frame]))
            if picture is None:
                return True
            # Other properties act on all pictures, so a part of the equal ones is enough.
            if (picture[0] != before[0] or frame % PART == 0) and harm(before, picture) > VISIBLE:
                return True
        return False


def _too_long(*_) -> None:
    raise TimeoutError


def main() -> None:
    """Flip all bits and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a box or set")
    parser.add_argument("--show", action="store_true", help="print each silent bit")
    parser.add_argument("--file", type=int, choices=(0, 1), help="only this of the two")
    options = parser.parse_args()
    av.logging.set_level(None)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    signal.signal(signal.SIGALRM, _too_long)
    started, silent = time.monotonic(), collections.Counter()
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    with tempfile.TemporaryDirectory() as name:
        for number in range(2) if options.file is None else [options.file]:
            file = File(camera(Path(name), number))
            for kind, field, bit in places(file.path):
                if options.only not in kind:
                    continue
                alone, shared = file.outcome(bit, Path(name) / "v.MP4")
                counts[kind].update(["bits", f"{alone} alone", f"{shared} shared"])
                if alone == "silent":
                    silent[f"{kind} {field}{'' if shared == 'silent' else ', alone'}"] += 1
                if options.show and alone == "silent":
                    print(number, kind, field, bit, "shared:", shared, flush=True)
    columns = ("bits", *(f"{what} {how}" for how in ("alone", "shared")
                         for what in ("harmless", "reported", "silent")))  # fmt: skip
    print("what  " + "  ".join(columns))
    for kind, found in counts.items():
        print(f"{kind:5} " + "  ".join(f"{found[c]:{len(c)}}" for c in columns))
    print(f"{time.strftime('%Y-%m-%d')}, {time.monotonic() - started:.0f} s")
    print(json.dumps({"silent": dict(silent), "counts": counts}))


if __name__ == "__main__":
    main()
