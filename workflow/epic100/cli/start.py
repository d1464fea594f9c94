"""What a run needs before its first job: videos, start weights, an encoder that can work."""

import importlib.util
from collections.abc import Collection, Iterable

from epic100.base.errors import EpicError
from epic100.data.start_weights import StartWeights, error_of, probe

# These rules read clips of videos, or of their small copies.
READ_CLIPS = {"train", "predict", "timeline", "background", "features", "browse_clips"}


def reject_missing_videos(
    rules: Collection[str], missing: str, missing_val: str, *, has_copies: bool
) -> None:
    """Stop a run that reads videos, but has none, or one that cleans without any of val.

    Args:
        rules: The rules that have jobs.
        missing: The message about missing videos, or "".
        missing_val: The message if no video of val is there, or "".
        has_copies: Whether clips are read from small copies, and only scans from the videos.

    Raises:
        EpicError: As said.
    """
    readers = {"scan", "proxy"} | (set() if has_copies else READ_CLIPS)
    if missing and not readers.isdisjoint(rules):
        raise EpicError(missing)
    if missing_val and "clean" in rules:
        raise EpicError(missing_val)


def reject_missing_weights(rules: Collection[str], weights: Iterable[StartWeights | None]) -> None:
    """Stop a run whose start weights are wrong or cannot be fetched.

    Args:
        rules: The rules that have jobs.
        weights: The start weights of each training; None for random ones.

    Raises:
        EpicError: As said.
    """
    for start in filter(None, weights):
        if start.needs_download and "weights" in rules:
            probe(start)
        if not start.needs_download and "train" in rules and (error := error_of(start)):
            raise EpicError(error)


def reject_other_encoders(folders: Iterable[str]) -> None:
    """Stop a run with an encoder of Hugging Face that cannot be built here.

    Args:
        folders: The folders of encoders that jobs read.

    Raises:
        EpicError: As said.
    """
    # With `--sdm conda`, only the jobs have torch.
    if folders and importlib.util.find_spec("torch"):
        from epic100.model.hugging_face_folder import HuggingFaceFolder

        for folder in folders:
            HuggingFaceFolder(folder).open()
