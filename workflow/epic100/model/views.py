"""Views of a segment: the crops of clips spread over it. Their probabilities are averaged."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from epic100.base.errors import EpicError
from epic100.model.model_file import split_outputs

# SlowFast is tested with this number of clips on EPIC-KITCHENS-100 (TEST.NUM_ENSEMBLE_VIEWS).
DENSE_CLIPS = 10
SAMPLERS = ("SampleFrames", "UniformSample", "PublishedFrames")
SEVERAL_CROPS = ("ThreeCrop", "TenCrop")
CROPS = ("CenterCrop", *SEVERAL_CROPS)
# This value of `crops` means the full frame.
FULL_FRAME = "whole"

Pipeline = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Sampling:
    """How a pipeline samples the frames of a segment.

    Attributes:
        sampling_type: "dense": a clip has frames at a fixed interval, from a part of the segment
            (SampleFrames). "segment": the frames of each clip cover the complete segment
            (UniformSample). "sparse": the frames of the only clip cover the complete segment
            (SampleFrames with clips of one frame, for MMAction2's 2D models, and most rules of
            PublishedFrames). "other": none of these.
        frames: Frames of a view; 0 if unknown.
        interval: Distance from one frame of a dense clip to the next, in frames.
        fps: The frame rate at which `interval` counts; None: the file's own.
        clips: Clips of a segment; 1 for "sparse", where `num_clips` is the number of frames.
    """

    sampling_type: str
    frames: int = 0
    interval: int = 1
    fps: float | None = None
    clips: int = 1

    def span(self, fps: float) -> int:
        """Count the frames that a dense clip spans in a file of this frame rate."""
        file_frames_per_frame = fps / self.fps if self.fps else 1
        return max(1, round(self.frames * self.interval * file_frames_per_frame))


def sampling_of(pipeline: Pipeline) -> Sampling:
    """Describe how a pipeline takes frames from a segment, by its first sampling step."""
    for step in pipeline:
        length, clips = step.get("clip_len", 1), step.get("num_clips", 1)
        if step["type"] == "UniformSample":
            return Sampling("segment", length, clips=clips)
        if step["type"] == "SampleFrames" and length == 1:
            # Each clip of the step is a single frame, and all of them together are one view.
            return Sampling("sparse", frames=clips)
        # Among the published rules, only SlowFast's takes dense clips.
        if step["type"] == "PublishedFrames" and step["rule"] != "slowfast":
            return Sampling("sparse", length)
        if step["type"] in SAMPLERS:
            rate = step.get("target_fps")
            return Sampling("dense", length, step.get("frame_interval", 1), rate, clips)
    return Sampling("other")


def chosen_views(pipeline: Pipeline, clips: int | None, crops: int | str) -> tuple[int, int | str]:
    """Choose the numbers of clips and crops per segment, and check that the pipeline can give them.

    Args:
        pipeline: The model's test pipeline.
        clips: The key `predict: clips:`. None means 10 for dense clips, and 1 for clips that cover
            the complete segment.
        crops: 1, 3 or "whole".

    Returns:
        Clips and crops.

    Raises:
        EpicError: The pipeline does not support them.
    """
    sampling_type = sampling_of(pipeline).sampling_type
    if clips is None:
        clips = DENSE_CLIPS if sampling_type == "dense" else 1
    if clips > 1 and sampling_type in ("sparse", "other"):
        sampler = next((step["type"] for step in pipeline if step["type"] in SAMPLERS), "")
        why = {
            "sparse": f"its {sampler} takes single frames over the complete segment, which is one "
            "clip; UniformSample can give several",
            "other": "it has neither SampleFrames nor UniformSample",
        }[sampling_type]
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


def cost_of_views(clips: int, crops: int | str, segments: int) -> str:
    """Describe views and their cost: `10 clips x 3 crops of each of 9 segments: 30 times ...`."""
    crops_text = "the full frame" if crops == FULL_FRAME else f"{crops} crops"
    crop_count = 1 if crops == FULL_FRAME else int(crops)
    return (
        f"{clips} clips x {crops_text} of each of {segments} segments: {clips * crop_count} times "
        "the cost of one view"
    )


def view_pipeline(pipeline: Pipeline, clips: int, crops: int | str) -> list[dict]:
    """Change a test pipeline so that it gives `clips` x `crops` views per segment.

    A single dense clip is in the middle of the segment. Several dense clips are spread evenly from
    the segment's first frame to its last. Three crops are squares as large as the short side after
    scaling, spread along the long side; each frame is decoded once for all three.

    Args:
        pipeline: The model's test pipeline.
        clips: Clips per segment.
        crops: Crops per clip: 1 (centre) or 3; "whole" for the full frame.

    Returns:
        The steps of the changed pipeline; `pipeline` stays as it is.

    Raises:
        EpicError: The pipeline does not support these views (`chosen_views`).
    """
    # This call only raises the error: the caller has chosen the numbers.
    chosen_views(pipeline, clips, crops)
    sampling_type = sampling_of(pipeline).sampling_type
    steps, short_side = [], None
    for step in map(dict, pipeline):
        # A step that samples gives `clips` clips. That of a 2D model stays: its `num_clips` is the
        # number of frames of its one clip.
        if sampling_type in ("dense", "segment") and step["type"] in SAMPLERS:
            step["num_clips"] = clips

        # A step that scales or decodes determines the size of three crops.
        elif step["type"] == "Resize":
            short_side = None
            if step.get("keep_ratio", True) and isinstance(step["scale"], list | tuple):
                short_side = min((side for side in step["scale"] if side > 0), default=None)
        elif step["type"] == "DecodeSegment":
            short_side = step.get("short_side")
            # For other crops than the centre, a step that decodes a crop becomes one that decodes
            # full frames. For three crops, ThreeCrop follows.
            if step.get("crop") and crops != 1:
                size = short_side or step["size"]
                steps.append({"type": "DecodeSegment", "short_side": short_side})
                if crops == FULL_FRAME:
                    continue
                step = {"type": "ThreeCrop", "crop_size": size}

        # A step that crops is left out, or replaced.
        elif step["type"] in CROPS and crops == FULL_FRAME:
            continue
        elif step["type"] in CROPS and crops == 3:
            step = {"type": "ThreeCrop", "crop_size": short_side or step["crop_size"]}
        elif step["type"] in SEVERAL_CROPS:
            step = {"type": "CenterCrop", "crop_size": step["crop_size"]}
        steps.append(step)
    return steps


def frames_of_2d(pipeline: Pipeline) -> int | None:
    """Count the frames per view of a 2D model; None for a 3D model, whose input is [C, T, H, W].

    Raises:
        EpicError: The number of frames is unknown.
    """
    if not any(
        step["type"] == "FormatShape" and step["input_format"] == "NCHW" for step in pipeline
    ):
        return None
    if frames := sampling_of(pipeline).frames:
        return frames
    raise EpicError(
        "the model's test pipeline has FormatShape of NCHW, but neither SampleFrames nor "
        "UniformSample before it, so how many frames make a view is not known; add one of them"
    )


def mean_log_probs(scores: torch.Tensor, outputs: Mapping[str, int], segments: int) -> torch.Tensor:
    """Compute the log of a model's mean probabilities over the views of each segment.

    Args:
        scores: Logits [segments * views, all outputs], with the views of a segment together.
        outputs: Number of outputs of each task (`output_sizes`). Each task has its own softmax.
        segments: Number of segments.

    Returns:
        float32 [segments, all outputs] on the CPU.
    """
    scores_of_tasks = split_outputs(scores.double(), outputs).values()
    views = torch.cat([logits.log_softmax(dim=1) for logits in scores_of_tasks], dim=1)
    views = views.unflatten(0, (segments, -1))
    # The log of a mean is the log of the sum minus the log of the number.
    return (views.logsumexp(dim=1) - math.log(views.shape[1])).float().cpu()
