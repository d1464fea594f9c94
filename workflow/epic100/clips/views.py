"""Which views of a segment a test pipeline can give, and what they cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from epic100.base.errors import EpicError

DENSE_CLIPS = 10  # as SlowFast tests on EPIC-KITCHENS-100 (TEST.NUM_ENSEMBLE_VIEWS)
CROPS = ("CenterCrop", "ThreeCrop", "TenCrop")
WHOLE = "whole"  # no crop: the whole picture

Pipeline = Sequence[Mapping[str, Any]]


def chosen_views(pipeline: Pipeline, clips: int | None, crops: int | str) -> tuple[int, int | str]:
    """Choose the number of clips and crops per segment.

    Args:
        pipeline: The model's test pipeline.
        clips: `predict: clips:`; None means 10 if a clip is a dense stretch of frames, and 1 if its
            frames are spread over the whole segment.
        crops: 1, 3 or "whole".

    Returns:
        Clips and crops.

    Raises:
        EpicError: The pipeline does not support them.
    """
    if crops not in (1, 3, WHOLE):
        raise EpicError(f"predict: crops is {crops}; expected 1 (centre), 3 or {WHOLE}")
    if not isinstance(pipeline, list | tuple) or not all("type" in step for step in pipeline):
        raise EpicError("the model's test pipeline is no list of steps, each with its `type`")
    kind = sampling_of(pipeline)
    if clips is None:
        clips = DENSE_CLIPS if kind == "dense" else 1
    if clips > 1 and kind in ("sparse", "other"):
        why = {
            "sparse": "its SampleFrames takes single frames over the whole segment, which is one "
            "clip; UniformSample can give several",
            "other": "it has neither SampleFrames nor UniformSample",
        }[kind]
        raise EpicError(
            f"predict: clips is {clips}, but the model's test pipeline cannot give them: {why}; "
            "set it to null"
        )
    if crops != 1 and not any(step["type"] in CROPS or step.get("crop") for step in pipeline):
        raise EpicError(
            f"predict: crops is {crops}, but the model's test pipeline has no CenterCrop, and no "
            "DecodeSegment with `crop`, to put other crops in place of; set it to 1"
        )
    return clips, crops


def sampling_of(pipeline: Pipeline) -> str:
    """How a pipeline samples the frames of a segment.

    Returns:
        "dense": neighbouring frames at an interval, from a part of the segment. "segment": the
        frames of a clip cover the whole segment (UniformSample). "sparse": the same, the way
        MMAction2's 2D models do it (SampleFrames with clips of one frame). "other": none of these.
    """
    for step in pipeline:
        if step["type"] == "UniformSample":
            return "segment"
        if step["type"] == "SampleFrames":
            return "sparse" if step.get("clip_len") == 1 else "dense"
    return "other"


def cost_of_views(clips: int, crops: int | str, segments: int) -> str:
    """Say how many views each segment has, and how much longer than one they take."""
    shown, parts = ("the whole picture", 1) if crops == WHOLE else (f"{crops} crops", int(crops))
    views = f"{clips} clips x {shown} of each of {segments} segments"
    return f"{views}: {clips * parts} times the cost of one view"
