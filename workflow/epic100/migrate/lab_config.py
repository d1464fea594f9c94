"""Convert a lab's MMAction2 config to the one in `model.pth`: its model and clips, our reader."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from epic100.base.errors import EpicError
from epic100.model.model_file import test_pipeline_of

# Steps that open a video or a cut clip. A lab that reads segments of whole videos has steps of its
# own, since MMAction2's DecordInit treats the whole video as the segment.
INITS = ("DecordInit", "PyAVInit", "OpenCVInit", "OpenSegment")
DECODES = ("DecordDecode", "PyAVDecode", "OpenCVDecode", "DecodeSegment")
SAMPLERS = ("SampleFrames", "UniformSample")
SAME = ("Resize", "CenterCrop", "FormatShape")
OURS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(INITS, {"type": "OpenSegment", "decoder": "pyav"}),
    **dict.fromkeys(DECODES, {"type": "DecodeSegment"}),
    "PackActionInputs": {
        "type": "PackActionInputs",
        "meta_keys": ("img_shape", "narration_id", "verb", "noun", "num_clips"),
    },
}


def read_config(path: str | os.PathLike) -> Config:
    """Read a config file and its bases. The config is Python and is run.

    Modules in its `custom_imports` are not imported.

    Raises:
        EpicError: MMEngine cannot read the config.
    """
    if not Path(path).is_file():
        raise EpicError(f"{path}: no such MMAction2 config; correct --config")
    try:
        return Config.fromfile(path, import_custom_modules=False)
    except Exception as error:  # a config is a program and can raise anything
        raise EpicError(
            f"{path}: not readable as an MMEngine config ({type(error).__name__}: {error}); give "
            "the complete one that MMEngine wrote into the work dir"
        ) from error


def predicting_config(lab: Config, where: str) -> tuple[Config, list[str]]:
    """Make the config for the rule predict: the lab's model and test pipeline on our segments.

    Args:
        lab: The lab's config.
        where: Start of error messages.

    Returns:
        The config, and notes for people: which of the lab's own steps were taken for opening or
        decoding, and the views (clips and crops) of its test. The pipeline does not contain the
        views; set them with `predict:` in the workflow's config.

    Raises:
        EpicError: The config has another form, or a step that has no counterpart here.
    """
    if "test_dataloader" not in lab or "model" not in lab:
        old = (
            "; this is one of MMAction2 0.x, rewrite it in the form of 1.x" if "data" in lab else ""
        )
        raise EpicError(f"{where}: expected `model` and `test_dataloader` of MMAction2 1.x{old}")
    head = lab.model.get("cls_head") if isinstance(lab.model, dict) else None
    if not isinstance(head, dict) or type(head.get("num_classes")) is not int:
        raise EpicError(f"{where}: model has no cls_head.num_classes; expected one head over pairs")
    steps = test_pipeline_of(lab, where)
    translated, notes = _translate(steps, where)
    kinds = [step["type"] for step in translated]
    needed = {"OpenSegment", "DecodeSegment", "PackActionInputs"}
    if not needed <= set(kinds) or not set(SAMPLERS) & set(kinds):
        found = ", ".join(step["type"] for step in steps)
        raise EpicError(
            f"{where}: its test pipeline is {found or 'empty'}; "
            "expected an opening step, SampleFrames or UniformSample, a decoding step and "
            "PackActionInputs"
        )
    sampling = next(step for step in steps if step["type"] in SAMPLERS)
    clips = 1 if _of_single_frames(sampling) else sampling.get("num_clips", 1)
    crops = 3 if any(step["type"] == "ThreeCrop" for step in steps) else 1
    notes.append(
        "its own test had these views; for the same, put into the workflow's config "
        f"`predict: {{clips: {clips}, crops: {crops}}}`"
    )
    dataset = {"type": "EpicSegmentVideoDataset", "data_root": "", "ann_file": "", "pairs": None,
               "test_mode": True, "pipeline": translated}  # fmt: skip
    config = {
        "custom_imports": {"imports": ["epic100.mmaction"], "allow_failed_imports": False},
        "default_scope": "mmaction",
        "model": lab.model.to_dict(),
        "test_dataloader": {"dataset": dataset},
    }
    return Config(config), notes


def _translate(
    steps: Sequence[dict[str, Any]], where: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Convert a test pipeline to this workflow's steps, with notes on steps known by position."""
    sampling = next((place for place, step in enumerate(steps) if step["type"] in SAMPLERS), -1)
    translated, notes = [], []
    for place, step in enumerate(steps):
        kind = name = step["type"]
        if name not in OURS and place == sampling - 1:
            kind = INITS[0]
        elif name not in OURS and place == sampling + 1 > 0 and "Decode" in name:
            kind = DECODES[0]
        if kind != name:
            notes.append(f"{name} was taken for the lab's own {kind}")
        translated.append(_step(kind, step, where))
    return translated, notes


def _step(kind: str, step: dict[str, Any], where: str) -> dict[str, Any]:
    """Convert one step of a test pipeline, which is of this kind, to this workflow's step."""
    if kind in OURS:
        return OURS[kind]
    if kind in SAMPLERS:
        clips = {} if _of_single_frames(step) else {"num_clips": 1}
        return {**step, **clips, "test_mode": True}
    if kind == "ThreeCrop":  # one crop; `predict: crops: 3` gives three
        return {"type": "CenterCrop", "crop_size": step.get("crop_size")}
    if kind in SAME:
        return step
    raise EpicError(
        f"{where}: step {kind} of the test pipeline has no counterpart; expected "
        f"{', '.join((*INITS, *SAMPLERS, *DECODES, *SAME, 'ThreeCrop'))} or PackActionInputs"
    )


def _of_single_frames(step: dict[str, Any]) -> bool:
    """Whether `num_clips` means the frames of one view, as in 2D models; it must then be kept."""
    return step["type"] == "SampleFrames" and step["clip_len"] == 1
