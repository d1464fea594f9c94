"""Set which part of a picture the train pipeline of an MMEngine config shows: `train: crop:`."""

from typing import Any

from mmengine.config import Config

from epic100.base.errors import EpicError

SHORT_SIDE = (8 / 7, 10 / 7)  # of the crop: SlowFast scales to 256-320 for a crop of 224
AREA = (0.5, 1.0)  # as LaViLa and AVION train on EPIC-KITCHENS-100


def cropping(config: Config, crop: str, where: str) -> dict[str, Any]:
    """Put the chosen crop in place of the train pipeline's own.

    Its own is DecodeSegment with `crop`, or DecodeSegment with steps of MMAction2 right after it:
    `RandomCrop`, or `RandomResizedCrop` and `Resize` to a square, and then `Flip`. A size or a
    range that the pipeline has is kept.

    Args:
        config: The MMEngine config.
        crop: random or resized.
        where: The config's file, for error messages.

    Returns:
        The dotted key of the train pipeline and its steps.

    Raises:
        EpicError: The train pipeline has no such crop.
    """
    place = "train_dataloader.dataset.pipeline"
    steps = [dict(step) for step in config.train_dataloader.dataset.pipeline]
    kinds = [step["type"] for step in steps]
    decoding = kinds.index("DecodeSegment") if "DecodeSegment" in kinds else len(steps)
    size, flip_ratio, used = _own_crop(steps[decoding:])
    if size is None:
        raise EpicError(
            f"train: crop is {crop}, but the train pipeline of {where} has no crop that it could "
            f"take the place of ({', '.join(kinds)}); set it to null, or give its DecodeSegment "
            "`crop` and `size`"
        )
    own = steps[decoding]
    step = {"type": "DecodeSegment", "crop": crop, "size": size, "flip_ratio": flip_ratio}
    if crop == "resized":
        step["area"] = own.get("area", AREA)
    elif isinstance(own.get("short_side"), (list, tuple)):
        step["short_side"] = own["short_side"]
    else:
        step["short_side"] = tuple(round(size * share) for share in SHORT_SIDE)
    return {place: [*steps[:decoding], step, *steps[decoding + used :]]}


def _own_crop(steps: list[dict[str, Any]]) -> tuple[int | None, float, int]:
    """Side of the square, probability of a flip, and number of steps; the first one decodes."""
    if steps and steps[0].get("crop"):
        return steps[0]["size"], steps[0].get("flip_ratio", 0.0), 1
    kinds = [step["type"] for step in steps]
    size, used = None, 1
    if kinds[1:2] == ["RandomCrop"]:
        size, used = steps[1]["size"], 2
    elif kinds[1:3] == ["RandomResizedCrop", "Resize"] and len(set(steps[2]["scale"])) == 1:
        size, used = steps[2]["scale"][0], 3
    if size is None or kinds[used : used + 1] != ["Flip"]:
        return size, 0.0, used
    return size, steps[used].get("flip_ratio", 0.5), used + 1
