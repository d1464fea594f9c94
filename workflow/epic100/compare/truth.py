"""The true classes of the val split, and which segments each official figure is over."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from epic100.base.errors import EpicError
from epic100.compare.scores import read_scores
from epic100.scoring.metrics import group_members, official_hits
from epic100.segments.official_lists import LISTS, read_list
from epic100.segments.segment_list import read_segments


@dataclass(frozen=True)
class Truth:
    """All segments of val.

    Attributes:
        ids: narration_ids, N of them.
        verb: True verbs [N].
        noun: True nouns [N].
        videos: Index of each segment's video [N], from 0 on.
        members: bool [N] by group and task, as of `metrics.group_members`.
    """

    ids: list[str]
    verb: npt.NDArray[np.int64]
    noun: npt.NDArray[np.int64]
    videos: npt.NDArray[np.int64]
    members: dict[str, dict[str, np.ndarray]]

    @property
    def video_count(self) -> int:
        """Number of videos."""
        return int(self.videos.max()) + 1

    def hits(
        self, path: Path, export: Mapping[str, Any], classes: Mapping[str, int]
    ) -> dict[str, np.ndarray]:
        """Return which segments a model gets right, bool [N] by `{verb,noun,action}_at_{1,5}`.

        Arguments and errors are as for `read_scores`.
        """
        scores = read_scores(path, self.ids, export, classes)
        return official_hits(*scores, self.verb, self.noun)


def read_truth(path: str | os.PathLike, lists: Mapping[str, str]) -> Truth:
    """Read the segment list of val.

    Args:
        path: results/segments/val.txt.
        lists: Paths by the keys of `official_lists.LISTS`. A group without its list is empty.

    Raises:
        EpicError: A file is wrong, or the list has no segment.
    """
    segments = read_segments(path)
    if not len(segments):
        raise EpicError(f"{path}: no segment in it; expected those of split val")
    verb, noun = segments["verb"].to_numpy(), segments["noun"].to_numpy()
    participants: Sequence[str] = [Path(name).parent.name for name in segments["path"]]
    groups = {key: read_list(lists[key], key) if key in lists else [] for key in LISTS}
    _, videos = np.unique(segments["path"].to_numpy(dtype=str), return_inverse=True)
    members = group_members(verb, noun, participants, **groups)
    return Truth(segments["narration_id"].tolist(), verb, noun, videos, members)
