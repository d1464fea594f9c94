"""Readers of files from strangers, valid files for each reader, and changes to them. No test here.

Either random bytes of a file are changed, or its contents are read, changed in one place and
written again (`crafted`). Readers use the contents as a run would. tests/attacks/test_fuzzing.py
uses this module for seconds, and benchmarks/fuzz.py for as long as asked.
"""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

import epic100.clips.dataset  # noqa: F401
from epic100.base.errors import EpicError
from epic100.base.torch_file import read_tensors, write_tensors
from epic100.cli.lab_checkpoint import read_checkpoint
from epic100.data.annotations import read_annotations
from epic100.data.official_lists import read_class_names, read_list
from epic100.data.pairs import read_pairs
from epic100.data.segment_list import read_segments
from epic100.model.model_file import TrainedModel, load_model, save_model, test_pipeline_of
from epic100.model.untrusted import clean_model, clean_pipeline, parse_config
from epic100.prediction.features import Features, read_features, write_features
from epic100.scan.h264 import CodedStream, slice_header
from epic100.scan.nal import length_size_of, nal_units
from epic100.scoring.predictions import (
    complete_scores,
    read_predictions,
    reduction_methods,
    write_predictions,
)
from epic100.scoring.submission import check
from epic100.scoring.submission_file import read_submission, read_zip, write_zip
from epic100.video.build_index import build_index
from epic100.video.ffmpeg import boxes_of
from epic100.video.index import load_index, read_stored_result, store_result, write_indexes
from epic100.video.scan_table import ScanRow, read_scan_table, write_scan_table
from epic100.video.sheet import Video, read_sheet
from support.checkout import CLASSES
from support.crafted import members_of, saved, zip_of
from support.decoder_stand_in import FRAMES
from support.made_up import IDS, SLS, M, V, make_entries, predictions
from support.scanned import index_at, inspect
from support.tricky_videos import encode

PAIRS = [(0, 1, 5), (2, 3, 4)]
ROW = "P01_01\tP01\ttrain\t59.94\t40.5\thttps://x/P01_01.MP4\t" + "0a" * 16 + "\n"
CONFIG = """model = dict(type='Recognizer3D', backbone=dict(type='X3D', gamma_w=1, gamma_d=1.0),
    cls_head=dict(type='X3DHead', num_classes=2, in_channels=432, init_cfg=None))
test_dataloader = dict(dataset=dict(pipeline=[dict(type='OpenSegment', decoder='pyav'),
    dict(type='SampleFrames', clip_len=13, frame_interval=6), dict(type='DecodeSegment'),
    dict(type='PackActionInputs', meta_keys=('a', 'b'))]))
"""
# It has an SPS and a PPS of x264, as an avcC record, and then a slice behind its length.
AVCC = bytes.fromhex(
    "0164000affe100186764000aacd9445f9f016a020202800000030080000018078912cb01000668ebe3cb22c0"
)


NUMBERS = (b"0", b"-1", b"9" * 30, b"1e999", b"nan", b"\xff" * 4, bytes(8), b"\x7f" + b"\xff" * 7)
BITS = (
    *rb"""" , { [ ( ' \ % .. None true os.system _scope_ type""".split(),
    *(b"\x00", b"\n", b"\t", b"\x1b[2J", "\u202e".encode(), b"\xff\xfe"),
)


def change(data: bytes, rng: random.Random) -> bytes:
    """Make one to six changes: of bits, bytes and numbers, or pieces removed or repeated."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at = rng.randrange(len(data) + 1)
        length = rng.choice((1, 2, 4, 16, 64, 1000))
        piece = data[at : at + length]
        # Each change removes a number of bytes and puts others in their place.
        removed, new = rng.choice(
            (
                (1, bytes(byte ^ 1 << rng.randrange(8) for byte in piece[:1])),
                (length, rng.randbytes(length)),
                (rng.choice((0, 1, 4, 8)), rng.choice(NUMBERS)),
                (0, rng.choice(BITS)),
                (length, b""),
                (0, piece * rng.choice((1, 2, 50))),
                (4, struct.pack(rng.choice("<>") + "I", rng.choice((0, 1, 2**31, 2**32 - 1)))),
            )
        )
        data = data[:at] + new + data[at + removed :]
    return data


def inside(end: str) -> Callable[[bytes, random.Random], bytes]:
    """Return a change of a member of a zip whose name has this end; its checksum is made anew."""

    def change_member(data: bytes, rng: random.Random) -> bytes:
        members = members_of(data)
        wanted = rng.choice([name for name, _ in members if name.endswith(end)])
        return zip_of(
            *((n, change(content, rng) if n == wanted else content) for n, content in members)
        )

    return change_member


@dataclass(frozen=True)
class Target:
    """A reader of files to be attacked.

    Attributes:
        read: The reader.
        seeds: Makes valid files for the reader, in a folder, and returns their bytes.
        raises: The errors that the reader may raise.
        change: Makes a changed file from a valid one.
    """

    read: Callable[[Path], object]
    seeds: Callable[[Path], list[bytes]]
    raises: tuple[type[BaseException], ...] = (EpicError,)
    change: Callable[[bytes, random.Random], bytes] = change


def text(content: str) -> Callable[[Path], list[bytes]]:
    """Return the seeds of a reader of texts: this text."""
    return lambda folder: [content.encode()]


def made(name: str, make: Callable[[Path], object]) -> Callable[[Path], list[bytes]]:
    """Return the seeds of a reader of other files: the file `name` as `make` writes it."""

    def seeds(folder: Path) -> list[bytes]:
        make(folder / name)
        return [(folder / name).read_bytes()]

    return seeds


def _write_model(path: Path) -> None:
    weights = {"cls_head.fc2.weight": torch.zeros(2, 3), "a": torch.ones(4)}
    save_model(TrainedModel(weights, PAIRS, 97, 300, _parse_config(), {"split": "train"}), path)


def _write_predictions(path: Path) -> None:
    write_predictions(predictions(["P01_01_0"]), path)


def _write_checkpoint(path: Path) -> None:
    meta = {"epoch": 3, "cfg": CONFIG}
    path.write_bytes(saved({"state_dict": {"module.a": torch.ones(3)}, "meta": meta}))


def _write_index(path: Path) -> None:
    film = path.parent / "v.MP4"
    film.write_bytes(_encode_film(path.parent)[0])
    write_indexes({"P01_01": build_index(film)}, path)


def _write_scan_table(path: Path) -> None:
    row = ScanRow("P01_01", "damaged", fps=50.0, frames=90, damaged=[(3, 9)], reason="torn")
    write_scan_table([row, ScanRow("P01_02", "missing", reason="no file")], path)


def read_csv(path: Path) -> object:
    """Read the annotations of P01_01 in a train CSV."""
    videos = {"P01_01": Video("P01_01", "P01", "train", 50.0, 60.0)}
    return read_annotations(path, videos, split="train", classes=CLASSES)


def _parse_config(text: str = CONFIG) -> Config:
    return parse_config(text, "model.pth", "train again")


def _read_config(path: Path) -> object:
    config = _parse_config(path.read_bytes().decode("utf-8", "replace"))
    clean_model(config.get("model"), "model.pth")
    return clean_pipeline(test_pipeline_of(config, "model.pth"), "model.pth")


def write_small_features(path: Path) -> None:
    """Write features of two seconds, the first row damaged."""
    rows = np.arange(4)
    made_from = {"encoder": "", "model": "ab", "load_from": None, "stride": 0.5, "window": 1.0}
    clips = np.stack([rows, rows + 9], axis=1)
    times = (np.ones((4, 3), np.float32), rows > 0, rows + 0.25, rows * 30, clips)
    write_features(Features(*times, 59.94, 2.0, made_from), path)


def _use_features(path: Path) -> object:
    features = read_features(path)
    return features.fps, features.feats[features.valid].sum(axis=0)


def _use_predictions(path: Path) -> object:
    predictions = read_predictions(path, "val")
    return [
        complete_scores(predictions, ["P01_01_0"], way) for way in reduction_methods(predictions)
    ]


def _read_submission(path: Path) -> object:
    return check(read_submission(path), IDS, V, M)


def _read_h264(path: Path) -> object:
    data = path.read_bytes()
    list(nal_units(data, length_size_of("h264", data)))
    settings = CodedStream("h264", data).settings
    return settings and slice_header(data[6:], settings)


def _read_boxes(path: Path) -> object:
    data = path.read_bytes()

    def read_at(start: int, count: int) -> bytes:
        return data[start : start + count]

    return list(boxes_of(read_at, 0, len(data)))


def _encode_film(path: Path) -> list[bytes]:
    return [encode(path / "v.MP4", FRAMES, movflags="faststart").read_bytes()]


def _encode_index(folder: Path) -> list[bytes]:
    """Make an MP4 that ends where its frames would begin, behind its index."""
    data = _encode_film(folder)[0]
    return [data[: data.index(b"mdat") + 4]]


SEGMENTS = "P01/P01_01.MP4 0 60 1 2 P01_01_0\nP01/P01_01.MP4 60 90 3 4\n"
SHEET = "video_id\tparticipant_id\tsplit\tfps\tduration\turl\tmd5\n"
CSV = (
    "narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class,verb\n"
    'P01_01_0,P01_01,00:00:01.00,00:00:02.5,1,2,"put, down"\n'
    "P01_01_1,P01_01,00:00:03,00:00:04,0,9,a\n"
)
in_pickle = inside("data.pkl")
TARGETS: dict[str, Target] = {
    "sheet": Target(read_sheet, text(SHEET + ROW)),
    "csv": Target(read_csv, text(CSV)),
    "list": Target(lambda p: read_list(p, "tail_verbs"), text("verb\n1\n2\n")),
    "participants": Target(
        lambda p: read_list(p, "unseen_participants"), text("participant_id\nP01\n")
    ),
    "classes": Target(
        lambda p: read_class_names([], {"verb_classes": str(p)}), text("id,key\n0,take\n")
    ),
    "segments": Target(read_segments, text(SEGMENTS)),
    "pairs": Target(read_pairs, text("pair_id\tverb\tnoun\tcount\n0\t1\t2\t3\n1\t4\t5\t6\n")),
    "scan table": Target(read_scan_table, made("a.tsv", _write_scan_table)),
    "config": Target(_read_config, text(CONFIG)),
    "model": Target(load_model, made("a.pth", _write_model)),
    "model, inside": Target(load_model, made("b.pth", _write_model), change=in_pickle),
    "predictions": Target(lambda p: read_predictions(p, "val"), made("c.pt", _write_predictions)),
    "predictions, inside": Target(
        lambda p: read_predictions(p, "val"), made("d.pt", _write_predictions), change=in_pickle
    ),
    "checkpoint, inside": Target(
        read_checkpoint, made("e.pth", _write_checkpoint), change=in_pickle
    ),
    "own checkpoint": Target(
        lambda p: read_tensors(p, "a checkpoint", ""),
        made(
            "k.pth",
            lambda p: write_tensors(
                {"state_dict": {str(n): torch.ones(3000) for n in range(3)}}, p
            ),
        ),
    ),
    "kept result": Target(
        read_stored_result,
        made("k.npz", lambda p: store_result(p, {"md5": ""}, index_at([0, 1], Fraction(1, 30)))),
    ),
    "submission": Target(
        _read_submission, made("a.pt", lambda p: write_tensors(make_entries(), p))
    ),
    "submission, inside": Target(
        _read_submission,
        made("f.pt", lambda p: write_tensors(make_entries(), p)),
        change=in_pickle,
    ),
    "zip": Target(
        read_zip,
        made("a.zip", lambda p: write_zip(make_entries(), p, SLS)),
    ),
    "zip, inside": Target(
        read_zip,
        made("b.zip", lambda p: write_zip(make_entries(), p, SLS)),
        change=inside("test.json"),
    ),
    "index": Target(lambda p: load_index(p, "P01_01"), made("a.npz", _write_index)),
    "index, inside": Target(
        lambda p: load_index(p, "P01_01"), made("b.npz", _write_index), change=inside(".npy")
    ),
    "features": Target(_use_features, made("e.npz", write_small_features)),
    "h264": Target(_read_h264, lambda folder: [AVCC, AVCC + AVCC], raises=(EpicError, ValueError)),
    "mp4": Target(_read_boxes, _encode_index),
}
# FFmpeg may crash on these, so they are for separate processes: benchmarks/fuzz.py.
FILMS = {
    "video": Target(lambda p: inspect(p, "P01_01"), _encode_film, raises=(EpicError, MemoryError))
}


def attempt(target: Target, data: bytes, folder: Path) -> None:
    """Read `data` as a file of `target`; only errors that the reader must not raise are raised."""
    path = folder / "input.bin"
    path.write_bytes(data)
    with np.errstate(all="ignore"):
        try:
            target.read(path)
        except target.raises as error:
            assert len(str(error)) < 5000, "a message of pages"
