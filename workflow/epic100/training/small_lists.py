"""A few segments in place of the clean lists, for a trial before any video is scanned."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from epic100.base.errors import EpicError
from epic100.segments.cleaning import pair_table
from epic100.segments.pairs import pairs_path, write_pairs
from epic100.segments.segment_list import NO_LABEL, write_segments
from epic100.video.index_file import index_path, load_index
from epic100.video.reader import VideoReader

FEW = 2  # segments
TRIED = 5  # videos


@dataclass(frozen=True)
class Few:
    """Some segments of one split.

    Args:
        segments: The segments.
        video: Path of their video; "" if no video could be read, so that pictures are grey.
        why: Why the last video that was tried cannot be read, or "".
    """

    segments: pd.DataFrame
    video: str
    why: str = ""


def few_segments(segments: pd.DataFrame, root: str, index_dir: str) -> Few:
    """Choose segments of the smallest video that can be read.

    Without an index, a reader reads all packets of a file. So small files are tried first.

    Args:
        segments: A segment list.
        root: The folder of the videos.
        index_dir: The folder of the frame indexes, as far as videos are scanned.
    """
    why = ""
    for path in _smallest(segments["path"].unique(), Path(root)):
        own = segments[segments["path"] == path].head(FEW)
        try:
            _read_first(Path(root) / path, own, Path(index_dir))
        except (EpicError, OSError) as error:
            why = str(error)
            continue
        return Few(own.reset_index(drop=True), path)
    return Few(segments.head(FEW).reset_index(drop=True), "", why)


def stand_in() -> pd.DataFrame:
    """Segments in place of annotations that are not there yet."""
    rows = [("P00/P00_00.MP4", 0, 100, 0, noun, f"P00_00_{noun}") for noun in range(FEW)]
    return pd.DataFrame(rows, columns=["path", "start", "stop", "verb", "noun", "narration_id"])


def write_small_results(
    folder: Path, split: str, train: pd.DataFrame, val: pd.DataFrame, pairs: pd.DataFrame
) -> None:
    """Write `clean/` as the rules clean and trainval would, with few segments and all pairs.

    Args:
        folder: Takes the place of the results folder.
        split: The training split.
        train: Its segments.
        val: Segments to validate on; may be empty.
        pairs: The pair table.
    """
    lists = {"val": val, split: train}
    for name, segments in lists.items():
        write_segments(segments, folder / f"clean/{name}.txt")
    (folder / "segments").mkdir(exist_ok=True)
    (folder / "segments/val.txt").touch()  # an empty clean list is then right
    write_pairs(pairs, pairs_path(str(folder), split))


def raw_pairs(segments: pd.DataFrame) -> pd.DataFrame:
    """The pair table of segments that are not cleaned yet; `EpicError` if none has a label."""
    if not (segments["verb"] != NO_LABEL).any():
        raise EpicError(
            "no segment with a verb and a noun to train on; expected EPIC_100_train.csv; check "
            "`annotations: train:` and `participants:`"
        )
    return pair_table(segments)


def _smallest(paths: np.ndarray, root: Path) -> Iterator[str]:
    sizes = {}
    for path in paths.tolist():
        try:
            sizes[path] = (root / path).stat().st_size
        except OSError:
            continue
    yield from sorted((path for path in sizes if sizes[path]), key=lambda path: sizes[path])[:TRIED]


def _read_first(file: Path, segments: pd.DataFrame, index_dir: Path) -> None:
    """Decode the first frame of each segment. Raises EpicError if one cannot be read."""
    path = index_path(index_dir, file.parent.name)
    reader = VideoReader(file, load_index(path, file.stem) if path.is_file() else None)
    try:
        for row in segments.to_dict("records"):
            reader.get_frames([row["start"], row["stop"] - 1])
    finally:
        reader.close()
