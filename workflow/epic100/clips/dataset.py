"""The data set for training and validation: segments of full-length videos, labelled by pair.

Videos are not cut into clips beforehand. A sample is a range of frames of a complete video, and the
pipeline decodes only the frames that it samples.

Batches are sent between processes as few large tensors. torch passes each tensor from a worker to
the training process with its own file descriptor, which stays open until the batch is used.
MMEngine's `pseudo_collate` keeps two tensors per segment, clip and label. With 18 workers, two
prefetched batches each and 128 segments per batch, that is 9,216 descriptors. Linux allows 1,024 or
4,096.
"""

import logging
import math
import os
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import torch
from mmaction.datasets.base import BaseActionDataset
from mmaction.registry import DATASETS
from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.utils.data import default_collate

import epic100.clips.published_frames  # noqa: F401  (registers its step)
from epic100.base.errors import DiskError, EpicError
from epic100.base.text_table import read_table
from epic100.clips.defects import BrokenClips, time_limit
from epic100.clips.transforms import OpenSegment
from epic100.data.pairs import read_pairs
from epic100.data.segment_list import NO_LABEL, SECONDS, read_segments
from epic100.video.index import find_index
from epic100.video.reader import FrameError
from epic100.video.sheet import find_files

OTHER_SEGMENTS = 10  # If a segment does not decode, this number of others is tried in its place.
log = logging.getLogger(__name__)


@DATASETS.register_module()
class EpicSegmentVideoDataset(BaseActionDataset):
    """A data set of the segments of a list, for MMAction2.

    A sample has `filename` (below `data_root`), `start_index` (first frame), `total_frames`
    (length), `label` (pair id), `verb`, `noun` and `narration_id`. The first frame and the length
    are in frames of the file, as MMAction2's `SampleFrames` expects. A sample also has the
    annotation's `start_seconds` and `stop_seconds`, if the list has them.

    If a clip does not decode, another one is drawn from the same segment, then from up to ten other
    segments. Each failure is logged. The run stops when the share of failures exceeds `max_broken`
    (`BrokenClips`). In `test_mode`, the replacement has the metainfo `broken`, so that a metric can
    ignore it.

    Args:
        ann_file: The segment list, in the format of `epic100.data.segment_list`.
        pipeline: MMAction2's pipeline steps.
        pairs: The pair table (`results/clean/pairs.tsv`); None if no labels are needed.
        data_root: The video root.
        index_dir: Folder of the frame indexes, for each `OpenSegment` of the pipeline.
        seed: The seed, the epoch and the sample's index determine all augmentation. So results do
            not depend on the number of workers, nor on where a run was resumed.
        test_mode: A segment whose pair is not in the table gets the label -1. In training, such a
            segment is an error.
        max_broken: Fraction of the clips that may fail to decode. At 0, the first failure is an
            error.
        clip_seconds: A clip that takes longer counts as a failure; 0 means no limit.
        part: Number of segments to use, always the same, evenly spaced in the list. None: all.
        table: A CSV or TSV file with a row per narration_id. Each sample has the values of its
            `columns`, as keys for the pipeline and as metainfo of the data sample.
        columns: Columns of `table`.
        **kwargs: Passed on to `BaseActionDataset`.

    Raises:
        EpicError: The list is empty, or has pairs that are not in the table of pairs, or segments
            or columns that are not in `table` (in `full_init`).
    """

    _fully_initialized: bool  # MMEngine sets it.

    def __init__(
        self,
        ann_file: str,
        pipeline: list,
        pairs: str | None = None,
        data_root: str = "",
        index_dir: str | None = None,
        seed: int = 0,
        test_mode: bool = False,
        max_broken: float = 0.01,
        clip_seconds: float = 600.0,
        part: int | None = None,
        table: str | None = None,
        columns: Sequence[str] = (),
        **kwargs: Any,
    ):
        """Store the arguments, which the class describes; the base class then calls `full_init`."""
        self.pairs_file = pairs
        self.index_dir = index_dir
        self.seed = seed
        self.max_broken = max_broken
        self.clip_seconds = clip_seconds
        self.max_segments = part
        self.table, self.columns = table, columns
        # The epoch is in shared memory, because the main process sets it and persistent workers
        # must see it.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        super().__init__(
            ann_file,
            pipeline=pipeline,
            data_prefix={"prefix": data_root},
            test_mode=test_mode,
            **kwargs,
        )

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the augmentation, for this process and its workers."""
        self._epoch[0] = epoch

    def full_init(self) -> None:
        """Read the segment list into arrays, whose memory forked workers share.

        They would copy dicts, since Python writes reference counts into objects that it reads.
        """
        if self._fully_initialized:
            return
        # The segments.
        table = read_segments(self.ann_file)
        if table.empty:
            raise EpicError(
                f"{self.ann_file}: no segments; results/clean/dropped.tsv says why they were "
                "dropped, and `videos: root:` where videos are expected"
            )
        # With `part`, the chosen rows are spread evenly over the list.
        if self.max_segments is not None and self.max_segments < len(table):
            table = table.iloc[np.arange(self.max_segments) * len(table) // self.max_segments]

        # A path is stored once, and a segment has the number of its path.
        paths, self._path_numbers = np.unique(
            table["path"].to_numpy(dtype=str), return_inverse=True
        )
        files = find_files(paths.tolist(), self.data_prefix["prefix"])
        self._paths = [str(path) for path in files.values()]
        # The list may spell the ending of a file in another way. A frame index is found by the path
        # in the list.
        self._listed = dict(zip(self._paths, files, strict=True))

        # What a sample has of its segment.
        self._ids = table["narration_id"].to_numpy(dtype=bytes)
        self._numbers = np.column_stack(
            [table[["start", "stop", "verb", "noun"]], self._labels(table)]
        )
        self._seconds = table[list(SECONDS)].to_numpy()
        self._values = self._values_of(table["narration_id"])

        self.broken = BrokenClips(len(table), self.max_broken)
        self._load_indexes()
        self._fully_initialized = True

    def _load_indexes(self) -> None:
        """Tell the steps where the indexes are; read all now, so that forked workers share them.

        `find_index` keeps what it has read.
        """
        for step in self._openers():
            folder = self.index_dir or step.index_dir
            step.index_dir = folder
            step.listed = self._listed
            if folder is None:
                continue
            # One file holds the indexes of a participant, so one path per folder is enough.
            path_of_folder = {os.path.dirname(path): path for path in self._listed.values()}
            for path in path_of_folder.values():
                try:
                    find_index(folder, path)
                except (EpicError, OSError) as error:
                    # A clip reads the index again, and the disk may be back by then.
                    log.warning(f"{error}; it will be tried again")

    def _openers(self) -> list[OpenSegment]:
        """Return the steps of the pipeline that open videos."""
        return [step for step in self.pipeline.transforms if isinstance(step, OpenSegment)]

    def _labels(self, table: pd.DataFrame) -> np.ndarray:
        """Return the label of each segment, int64: the id of its verb-noun pair, or -1.

        Raises:
            EpicError: In training, the pair of a segment is not in the table.
        """
        pairs = read_pairs(self.pairs_file) if self.pairs_file else []
        label_of_pair = {(verb, noun): label for label, (verb, noun, _) in enumerate(pairs)}
        labels = np.full(len(table), NO_LABEL)
        for index, pair in enumerate(zip(table["verb"], table["noun"], strict=True)):
            labels[index] = label_of_pair.get(pair, NO_LABEL)
        unknown = table[labels == NO_LABEL]
        if not self.test_mode and not unknown.empty:
            row = unknown.iloc[0]
            raise EpicError(
                f"{self.ann_file}: {row['narration_id']}: pair (verb {row['verb']}, noun "
                f"{row['noun']}) is not in {self.pairs_file}; both are written by the rule clean: "
                "make them again together"
            )
        return labels

    def _values_of(self, narration_ids: pd.Series) -> dict[str, np.ndarray]:
        """Return the values of the columns of `table`, by column, in the order of these ids."""
        if self.table is None:
            return {}
        needed = ("narration_id", *self.columns)
        delimiter = "," if self.table.endswith(".csv") else "\t"
        about = "the `table` of a data set: CSV or TSV, with narration_id and its `columns`"
        rows = read_table(self.table, needed, about=about, delimiter=delimiter)
        rows_by_id = {row["narration_id"]: row for _, row in rows}
        unknown = narration_ids[~narration_ids.isin(rows_by_id)]
        if not unknown.empty:
            raise EpicError(
                f"{self.table}: no row for {unknown.iloc[0]} (1 of {len(unknown)} segments of "
                f"{self.ann_file}); expected one for each narration_id"
            )
        texts = pd.DataFrame.from_dict(rows_by_id, orient="index").loc[narration_ids]
        return {name: _numbers_or_texts(texts[name].to_numpy(dtype=str)) for name in self.columns}

    def _columns_of(self, idx: int) -> dict[str, Any]:
        """Return the values of one segment in the columns of `table`, by column."""
        return {name: values[idx].item() for name, values in self._values.items()}

    def __len__(self) -> int:
        """Return the number of segments."""
        return len(self._numbers)

    def get_data_info(self, idx: int) -> dict:
        """Return a sample before any frame is read, for the first step of the pipeline."""
        start, stop, verb, noun, label = self._numbers[idx].tolist()
        seconds = zip(SECONDS, self._seconds[idx].tolist(), strict=True)
        # Seconds that are not known are NaN, and get no key: a step asks whether the key exists.
        return {name: value for name, value in seconds if not math.isnan(value)} | {
            "filename": self._paths[self._path_numbers[idx]],
            "start_index": start,
            "total_frames": stop - start,
            "label": label,
            "verb": verb,
            "noun": noun,
            "narration_id": self.narration_id(idx),
            "modality": self.modality,
            "sample_idx": idx,
            **self._columns_of(idx),
        }

    def prepare_data(self, idx: int) -> dict:
        """Run the pipeline on one segment, with random numbers from (seed, epoch, idx).

        Raises:
            EpicError: Too many clips are broken.
            FrameError: This clip and all its replacements fail to decode.
        """
        segment = idx
        for attempt in range(2 + OTHER_SEGMENTS):
            self._seed_generators(idx, attempt)
            self.broken.drawn += 1
            try:
                with time_limit(self.clip_seconds):
                    sample = super().prepare_data(segment)
            except (FrameError, DiskError) as error:
                self.broken.add(segment, self.narration_id, error)
                # Python deletes the name `error` at the end of this block.
                failure = error
                # After an error of the disk, an open reader may keep failing, so all are closed.
                if isinstance(error, DiskError):
                    for step in self._openers():
                        step.forget()
            else:
                if self.columns:
                    sample["data_samples"].set_metainfo(self._columns_of(segment))
                if segment != idx and self.test_mode:
                    sample["data_samples"].set_metainfo({"broken": True})
                return sample

            # The first retry takes the same segment, and later ones take others.
            if attempt:
                segment = np.random.randint(len(self))
        raise FrameError(
            f"{failure}; and no clip of {OTHER_SEGMENTS} other segments decodes: is the disk there?"
        ) from failure

    def _seed_generators(self, idx: int, attempt: int) -> None:
        """Seed all random generators of this process for a try to draw the clip of a segment.

        A clip follows from seed, epoch and index. A retry must draw another clip, so its number is
        added.
        """
        entropy = [self.seed, int(self._epoch), int(idx)]
        if attempt:
            entropy.append(attempt)
        state = np.random.SeedSequence(entropy).generate_state(4)
        python_seed, torch_seed, *_ = state.tolist()
        np.random.seed(state)
        random.seed(python_seed)
        torch.manual_seed(torch_seed)  # Steps of torchvision draw from torch.

    def narration_id(self, idx: int) -> str:
        """Return the narration_id of one segment."""
        return self._ids[idx].decode()


def _numbers_or_texts(texts: np.ndarray) -> np.ndarray:
    """Return the numbers that all of the texts state, or else the texts."""
    for number in (int, float):
        with suppress(ValueError, OverflowError):
            return texts.astype(number)
    return texts


class TensorsInOne(list[Tensor]):
    """A list of tensors that are views of one tensor, which is sent to a process in one piece.

    MMAction2's preprocessor needs a list, and makes another one of the same class.

    Attributes:
        joint: The one tensor. Its first axis counts the tensors of the list.
    """

    joint: Tensor

    def __reduce__(self) -> tuple:
        """Tell pickle to send the one tensor, and to split it again."""
        return _unbind, (self.joint,)


class SamplesByValue(list[BaseDataElement]):
    """A list of data samples whose labels are sent between processes as NumPy arrays.

    As tensors, each would need a file descriptor.
    """

    def __reduce__(self) -> tuple:
        """Tell pickle to send the samples with NumPy labels, and to make tensors of them again."""
        return _as_tensors, ([sample.numpy() for sample in self],)


@FUNCTIONS.register_module()
def collate_in_one(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collate samples into a batch of lists as `pseudo_collate` does, but with few large tensors.

    Args:
        samples: Samples of the dataset. If their `inputs` differ in shape or dtype, each is sent as
            a separate tensor.

    Returns:
        The batch with the lists `inputs` and `data_samples`.
    """
    batch = pseudo_collate(samples)
    if len({(tuple(item.shape), item.dtype) for item in batch["inputs"]}) == 1:
        # In a worker, `default_collate` puts the clips into one file of shared memory, so a batch
        # needs one file descriptor and not one per clip.
        batch["inputs"] = _unbind(default_collate(batch["inputs"]))
    batch["data_samples"] = SamplesByValue(batch["data_samples"])
    return batch


def _unbind(joint: Tensor) -> TensorsInOne:
    """Split a tensor along its first axis into a list of views."""
    tensors = TensorsInOne(joint.unbind())
    tensors.joint = joint
    return tensors


def _as_tensors(samples: list[BaseDataElement]) -> SamplesByValue:
    """Turn the NumPy labels of samples back into tensors, after they were sent."""
    return SamplesByValue(sample.to_tensor() for sample in samples)
