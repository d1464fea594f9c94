"""Tokens of segments: the output of an encoder for each segment, pooled to a grid.

The tokens of a video are one file, in the format of a prediction's shards. The index
`{split}.tokens.json` lists the files and names their encoder.
"""

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from epic100.base.atomic import write_text
from epic100.base.disk import read_text
from epic100.base.errors import EpicError
from epic100.model.views import sampling_of
from epic100.prediction.encoder import Source
from epic100.prediction.predict import complete_shards, videos_of
from epic100.prediction.shards import Job, Shards, run_key
from epic100.segments.segment_list import read_clean_list
from epic100.settings import FeatureSettings, PredictSettings

log = logging.getLogger(__name__)

# The mean and the standard deviation are computed from at most this number of segments.
SAMPLE_SIZE = 4096


@dataclass(frozen=True)
class Index:
    """The content of an index of tokens, `{split}.tokens.json`.

    Attributes:
        source: What the tokens depend on besides the videos: encoder, its fingerprint, its start
            weights, and the grid.
        run: Name of the shards' run (`run_key`).
        videos: By the video's path in lists: the stamp of its shard (`video_stamp`, a digest of
            the video file and of the segments), and the ids of its segments in the shard's order.
    """

    source: dict[str, Any]
    run: str
    videos: dict[str, tuple[str, list[str]]]


class Tokens:
    """The tokens of N segments.

    Args:
        rows: N tensors of floats, [T, C], in the order of the segments.
        source: As in `Index`.
    """

    def __init__(self, rows: list[Tensor], source: dict[str, Any]):
        """Store the tokens and their source; the class says what the arguments are."""
        self.rows, self.source = rows, source

    def part(self, numbers: Iterable[int]) -> "Tokens":
        """Return the tokens of the segments with these numbers, in this order."""
        return Tokens([self.rows[number] for number in numbers], self.source)

    @cached_property
    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        """The mean and the standard deviation of each channel, float32 [C] each.

        They are those of a sample of segments, spread evenly over the list.
        """
        sample = torch.cat(self.rows[:: math.ceil(len(self.rows) / SAMPLE_SIZE)]).float()
        # A channel that never changes has the deviation 0, by which nothing can be divided.
        return sample.mean(dim=0), sample.std(dim=0, correction=0).clamp_min(1e-6)

    def batches(
        self, order: Sequence[int], size: int, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield batches of `size` segments, in this order.

        Yields:
            The numbers of the segments, int64 [B], on the CPU; their tokens, float32 [B, T, C]; and
            bool [B, T], True for padding, since segments differ in T.
        """
        for first in range(0, len(order), size):
            segment_numbers = list(order[first : first + size])
            rows = [self.rows[number] for number in segment_numbers]
            lengths = torch.tensor([len(tokens) for tokens in rows])
            feats = pad_sequence(rows, batch_first=True)
            padded = torch.arange(feats.shape[1]) >= lengths[:, None]
            yield torch.tensor(segment_numbers), feats.to(device).float(), padded.to(device)


def make_tokens(
    segments: str | os.PathLike,
    out: str | os.PathLike,
    source: Source,
    *,
    video_root: str,
    index_dir: str | os.PathLike,
    settings: FeatureSettings,
    predict: PredictSettings,
    modules: Mapping[str, Any] | None = None,
    requested_gpus: int = 0,
) -> None:
    """Make the tokens of all segments of a clean list.

    For an encoder of dense clips, whose frames follow at a fixed distance, a segment has one clip
    for each token in time, and they are spread evenly over the segment. A video is not read again
    if there are tokens of the same source, grid, file and segments.

    Args:
        segments: The clean list.
        out: The index to write; the tokens are in `{split}.tokens.shards` beside it.
        source: The encoder that computes the tokens.
        video_root: Folder of the videos, or of their small copies.
        index_dir: The folder of the frame indexes.
        settings: The `features:` section.
        predict: The `predict:` section.
        modules: The config's `modules` section.
        requested_gpus: Number of GPUs that the rule requests.

    Raises:
        EpicError: A process fails, or the encoder's output has another form.
    """
    table = read_clean_list(segments)
    time, side = settings.grid
    token_source = {
        "encoder": source.encoder,
        "model": source.digest,
        "load_from": source.load_from,
        "grid": [time, side],
    }
    # From frames of the whole segment, an encoder gives all tokens in time with one clip.
    clips = time if sampling_of(source.pipeline).kind == "dense" else 1
    run = run_key(json.dumps(token_source), clips, crops=1)
    videos = videos_of(table, video_root)
    job = Job(
        model=source.path,
        segments=str(segments),
        out=str(out),
        run=run,
        video_root=video_root,
        index_dir=str(index_dir),
        settings=predict.model_copy(update={"clips": clips, "crops": 1}),
        videos=videos,
        modules=modules,
        encoder=source.encoder,
        # If each token in time has a clip of its own, the grid of a clip has one token in time.
        grid=(time // clips, side),
    )
    log.info(f"{out}: tokens of {len(videos)} videos, by {source.encoder} {source.digest[:12]}")
    complete_shards(job, requested_gpus, Path(segments).stem)
    ids = table["narration_id"]
    ids_of_videos = {
        path: (stamp, ids.iloc[row_numbers].tolist())
        for path, (stamp, row_numbers) in videos.items()
    }
    index = Index(token_source, run, ids_of_videos)
    write_text(out, TypeAdapter(Index).dump_json(index).decode() + "\n")
    log.info(f"{out}: {len(table)} segments, up to {time} x {side} x {side} tokens of each")


def read_tokens(
    segments: pd.DataFrame, indexes: Sequence[str | os.PathLike], source: dict[str, Any] | None
) -> Tokens:
    """Collect the tokens of the segments of a clean list.

    The tokens are memory-mapped: they stay on the disk until they are used.

    Args:
        segments: The clean list.
        indexes: The indexes that `make_tokens` wrote.
        source: The source that the tokens must have; None: any source, but the same for all.

    Raises:
        EpicError: A segment has no tokens, or tokens of several sources are mixed.
    """
    tokens_of_segment: dict[str, Any] = {}
    for path in indexes:
        advice = f"make it again: `snakemake --force {path}`"
        try:
            index = TypeAdapter(Index).validate_json(read_text(path))
        except (OSError, ValueError) as error:
            message = f"{path}: no index of the rule tokens ({' '.join(str(error).split())[:200]})"
            raise EpicError(f"{message}; {advice}") from error
        # Without a source, the first index decides which source the others must have.
        source = source or index.source
        if index.source != source:
            raise EpicError(
                f"{path}: tokens of {_describe(index.source)}; expected those of "
                f"{_describe(source)}, "
                f"which the probe learns or learned from; {advice}, or train the probe again"
            )
        shards = Shards(path, index.run)
        for video, (stamp, ids) in index.videos.items():
            tokens = shards.read(video, stamp, mapped=True)
            if tokens is None or len(tokens) != len(ids):
                raise EpicError(f"{shards.path(video)}: gone or broken; {advice}")
            tokens_of_segment |= zip(ids, tokens, strict=True)
    names = segments["narration_id"].tolist()
    if without_tokens := [name for name in names if name not in tokens_of_segment]:
        raise EpicError(
            f"{', '.join(map(str, indexes))}: no tokens of {without_tokens[0]}; make them again "
            "with `snakemake --force` and these files"
        )
    return Tokens([tokens_of_segment[name] for name in names], source or {})


def _describe(source: dict[str, Any]) -> str:
    """Write a source as text, with short digests: `encoder hf, model 3fa2..., grid (8, 4)`."""
    return ", ".join(f"{key} {str(value)[:12] or '-'}" for key, value in source.items())
