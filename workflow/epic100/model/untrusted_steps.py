"""Check the arguments of the steps of an untrusted test pipeline: names, types and limits.

MMAction2's steps check little when they are built. Without these checks, a wrong argument would be
a traceback in the middle of a prediction.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from epic100.base.errors import EpicError

# This limits every count, such as the pixels of a side or the frames of a clip.
LARGEST = 4_096
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1, le=LARGEST)]
Side = Count | Literal[-1]  # A side of -1 follows from the other side.
Square = Count | tuple[Count, Count]
Number = Annotated[float, Field(strict=True)]
Positive = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Rate = Annotated[Positive, Field(le=1_000)]
Factor = Annotated[Positive, Field(le=4)]

# Each step has its arguments, and each argument its type and its default. An argument with the
# default `...` must be stated.
STEPS: dict[str, dict[str, Any]] = {
    "OpenSegment": {
        "decoder": (Literal["pyav", "decord"], "pyav"),
        "index_dir": (None, None),
        "keep_open": (Count, 8),
    },
    "SampleFrames": {
        "clip_len": (Count, ...),
        "frame_interval": (Count, 1),
        "num_clips": (Count, 1),
        "temporal_jitter": (Flag, False),
        "twice_sample": (Flag, False),
        "out_of_bound_opt": (Literal["loop", "repeat_last"], "loop"),
        "test_mode": (Flag, False),
        "keep_tail_frames": (Flag, False),
        "target_fps": (Rate | None, None),
        "start_index": (Count | None, None),
    },
    "UniformSample": {
        "clip_len": (Count, ...),
        "num_clips": (Count, 1),
        "test_mode": (Flag, False),
    },
    "PublishedFrames": {
        "rule": (Literal["avion", "lavila", "slowfast", "c1"], ...),
        "clip_len": (Count, ...),
        "frame_interval": (Count, 1),
        "num_clips": (Count, 1),
        "target_fps": (Rate, 60.0),
    },
    "DecodeSegment": {
        "short_side": (Square | None, None),
        "crop": (Literal["centre", "random", "resized"] | None, None),
        "size": (Count | None, None),
        "area": (tuple[Share, Share], (0.5, 1.0)),
        "flip_ratio": (Share, 0.0),
    },
    "Resize": {
        "scale": (Factor | tuple[Side, Count] | tuple[Count, Side], ...),
        "keep_ratio": (Flag, True),
        "interpolation": (
            Literal["nearest", "bilinear", "bicubic", "area", "lanczos"],
            "bilinear",
        ),
        "lazy": (Literal[False], False),
    },
    "CenterCrop": {"crop_size": (Square, ...), "lazy": (Literal[False], False)},
    "ThreeCrop": {"crop_size": (Square, ...)},
    "TenCrop": {"crop_size": (Square, ...)},
    "Flip": {
        "flip_ratio": (Share, 0.5),
        "direction": (Literal["horizontal", "vertical"], "horizontal"),
        "flip_label_map": (None, None),
        "left_kp": (None, None),
        "right_kp": (None, None),
        "lazy": (Literal[False], False),
    },
    "FormatShape": {"input_format": (Literal["NCTHW", "NCHW"], ...), "collapse": (Flag, False)},
    "PackActionInputs": {
        "collect_keys": (None, None),
        "meta_keys": (tuple[str, ...], ()),
        "algorithm_keys": (tuple[()], ()),
    },
}
_CHECKED: dict[str, type[BaseModel]] = {
    name: create_model(
        name, __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **arguments
    )
    for name, arguments in STEPS.items()
}


def checked_step(step: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check the arguments of a pipeline step whose type is in `STEPS`.

    Args:
        step: The step, with its `type`.
        where: Start of the error message.

    Returns:
        The same step; pairs are tuples, as MMAction2 expects them.

    Raises:
        EpicError: An argument is unknown, missing, of another type or beyond its limits.
    """
    arguments = {key: value for key, value in step.items() if key != "type"}
    try:
        checked = _CHECKED[step["type"]].model_validate(arguments)
    except ValidationError as error:
        first_error = error.errors()[0]
        name = str(first_error["loc"][0])[:60]
        value_text = repr(arguments[name])[:60] if name in arguments else "missing"
        raise EpicError(
            f"{where}: {step['type']}: {name} is {value_text}; expected what MMAction2 takes there "
            f"({first_error['msg']})"
        ) from error
    return {"type": step["type"], **checked.model_dump(exclude_unset=True)}
