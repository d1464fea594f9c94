"""Timelines of any video files: each is scanned first, then predicted."""

import json
import logging
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.scan import scan_participant
from epic100.settings import PredictSettings, TimelineSettings
from epic100.timeline.files import SUFFIXES, beside
from epic100.timeline.run import ModelInUse, made_from, make_timeline
from epic100.timeline.scanned import ScannedVideo
from epic100.video.index import build_index
from epic100.video.index_file import index_path, load_index
from epic100.video.sheet import Video

log = logging.getLogger(__name__)


def make_timelines(
    files: Sequence[str | os.PathLike],
    model: ModelInUse,
    out: str | os.PathLike,
    *,
    settings: TimelineSettings,
    predict: PredictSettings,
) -> None:
    """Make the timelines of video files, `{out}/{name}.tsv` and the files beside it.

    A timeline that is there already, of the same model, file and settings, is kept. Work of an
    interrupted call is in `{out}/{name}.work` and `{out}/{name}.shards`, and is used again.

    Args:
        files: The videos, of any format, rate and length.
        model: The model.
        out: Folder of the outputs.
        settings: How clips are placed and merged.
        predict: Batch size, device, processes and workers.

    Raises:
        EpicError: Files that are no videos that can be read; the others are finished.
    """
    paths = [_checked(file) for file in files]
    names = [path.stem for path in paths]
    for name in names:
        if names.count(name) > 1:
            raise EpicError(
                f"{name}: two videos have this name, and their outputs would be one file; expected "
                "different names, or a call with another --out for each"
            )
    if Path(out).exists() and not Path(out).is_dir():
        raise EpicError(f"{out}: is a file; expected a folder for the timelines; name another")
    refused = []
    for path in paths:
        tsv = Path(out) / f"{path.stem}.tsv"
        if _is_made(tsv, made_from(model, path, settings)):
            log.info(f"{tsv}: is there already, of this model, video and settings")
            continue
        work = beside(tsv, ".work")
        try:
            scanned = _scanned(path, work)
        except EpicError as error:  # of this file only, so the others are made
            log.error(f"error: {error}")
            refused.append(str(error))
            continue
        make_timeline(scanned, model, tsv, settings=settings, predict=predict)
        shutil.rmtree(work, ignore_errors=True)
    if len(paths) == 1 and refused:
        raise EpicError(refused[0])
    if refused:
        raise EpicError(f"{len(refused)} of {len(paths)} videos have no timeline: " + refused[0])


def _checked(file: str | os.PathLike) -> Path:
    text, path = os.fspath(file), Path(file)
    if re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE):
        raise EpicError(f"{text}: is a URL; expected a video file; download it first")
    if path.is_dir():
        raise EpicError(f"{text}: is a folder; expected a video file; name its files: {text}/*.MP4")
    if not path.is_file():
        raise EpicError(f"{text}: no such file; expected a video")
    return path


def _scanned(path: Path, work: Path) -> ScannedVideo:
    """Scan a file as the workflow scans its own, through a link with a name it accepts."""
    try:
        index = build_index(path)
    except EpicError as error:
        raise EpicError(
            f"{error}; expected a video; if it was cut or only half copied, copy it again"
        ) from error
    if index.frames < 2 or not index.fps:
        raise EpicError(f"{path}: {index.frames} picture in it; expected a video, with two or more")
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)[:99].lstrip("_-") or "video"
    seconds = float(index.times[-1]) + 1 / index.fps
    video = Video(safe, safe, "test", index.fps, seconds)
    link = video.path(work)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(path.resolve())
    (row,) = scan_participant(
        [video], work, work / f"{safe}.tsv", index_path(work, safe), cache=work / "scanned"
    )
    if not row.readable:
        raise EpicError(f"{path}: {row.reason}; expected a video that can be decoded")
    found = load_index(index_path(work, safe), safe)
    return ScannedVideo(path.stem, work, os.fspath(video.path()), work, found, row)


def _is_made(tsv: Path, wanted: dict) -> bool:
    """Whether all files of a timeline are there, made from the same."""
    if not all(beside(tsv, suffix).is_file() for suffix in SUFFIXES):
        return False
    try:
        content = json.loads(beside(tsv, ".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("made_from") == wanted
