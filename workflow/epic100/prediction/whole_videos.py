"""Make the timelines of videos of the sheet, or of any files, which are scanned first."""

import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from epic100.base.atomic import write_text
from epic100.base.disk import read_json
from epic100.base.errors import CONTROL, EpicError, shown
from epic100.base.processes import choose_device, look_for_gpus
from epic100.pages.browse import add_film
from epic100.prediction.clip_outputs import (
    ScannedVideo,
    VideoClips,
    clip_frames,
    place_clips,
    rows_of_clips,
)
from epic100.prediction.predict import predictions_from_rows
from epic100.prediction.shards import remove_shards
from epic100.prediction.timeline import SUFFIXES, build_timeline, sibling, write_timeline
from epic100.prediction.timeline_model import ModelInUse
from epic100.scan.participant import scan_participant
from epic100.settings.prediction import PredictSettings, TimelineSettings
from epic100.video.build_index import build_index
from epic100.video.index import FrameError, VideoIndex, index_path, load_index
from epic100.video.mp4_copy import make_copy
from epic100.video.scan_table import DECODER_ONLY
from epic100.video.sheet import Video

# A video whose name ends like this would share a file with another one (`SUFFIXES`).
TAKEN_ENDING = ".activitynet"
NO_NAMES = "The model has no class names: `epic100 predict --class-lists` names its classes."
log = logging.getLogger(__name__)


def make_timeline(
    video: ScannedVideo,
    model: ModelInUse,
    tsv: str | os.PathLike,
    *,
    settings: TimelineSettings,
    predict: PredictSettings,
    modules: Mapping[str, Any] | None = None,
    requested_gpus: int = 0,
) -> None:
    """Predict a complete video and write its timeline.

    Finished clips are kept in `{video}.shards` in the outputs' folder until all are done, so an
    interrupted run is resumed and ends in the same files.

    Args:
        video: The scanned video.
        model: The model.
        tsv: The table to write; `timeline.SUFFIXES` lists the files in its folder.
        settings: The `timeline:` section.
        predict: The `predict:` section. A clip always has one view.
        modules: The config's `modules` section.
        requested_gpus: Number of GPUs that the rule requests.

    Raises:
        EpicError: The video has fewer than two frames, or a frame that the scan passed does not
            decode; torch cannot use a GPU that was granted or requested.
    """
    frames = clip_frames(model.source.pipeline, video.index.fps, settings.window)
    try:
        plan = place_clips(video.index, video.row.damaged, settings.stride, frames)
    except EpicError as error:
        raise EpicError(f"{video.name}: {error}") from error

    # A row of scores for the clip of each undamaged step.
    clip_count = int(plan.undamaged.sum())
    log.info(
        f"{video.name}: {plan.duration:.1f} s, {clip_count} clips of {frames} frames every "
        f"{settings.stride:g} s; {len(plan.undamaged) - clip_count} steps are damaged and skipped"
    )
    # Only shards are written, into a folder that is named after this path.
    out = sibling(tsv, ".pt")
    (rows,) = rows_of_clips(
        [VideoClips(video, plan)],
        model.source,
        out,
        predict=predict,
        requested_gpus=requested_gpus,
        label=video.name,
        modules=modules,
    )

    # The predictions are of one video, and of no split. Their ids are the numbers of the clips.
    ids = [str(number) for number in range(clip_count)]
    predictions = predictions_from_rows("", ids, rows, model.trained, model.source.digest)
    background_scores, background_threshold = None, 1.0
    if model.background:
        background_scores = model.background.scores(rows)
        background_threshold = model.background.threshold
    timeline = build_timeline(
        video=video.name,
        fps=video.index.fps,
        plan=plan,
        predictions=predictions,
        names=model.names,
        settings=settings,
        made_from=made_from(model, video.file, settings),
        first_frame_seconds=video.index.late,
        background_scores=background_scores,
        background_threshold=background_threshold,
        judged=video.row.judged,
    )
    write_timeline(timeline, tsv)
    remove_shards(out)
    log.info(f"{tsv}: {len(timeline.segments)} actions, {len(timeline.damaged)} damaged stretches")
    if video.row.caution:
        log.info(f"{video.name}: {video.row.caution}: spoilt bits may go unseen")


def made_from(
    model: ModelInUse, file: str | os.PathLike, settings: TimelineSettings
) -> dict[str, Any]:
    """Collect what a timeline depends on: model, background, names, video file and settings.

    The file of a timeline has this dictionary under `made_from`. If it is equal to the present one,
    the timeline need not be made again.
    """
    file_status = Path(file).stat()
    return {
        "model": model.source.digest,
        "background": model.background and sha256(repr(model.background).encode()).hexdigest()[:16],
        "names": sha256(repr(model.names.by_task).encode()).hexdigest()[:16],
        "bytes": file_status.st_size,
        "modified_ns": file_status.st_mtime_ns,
        "settings": settings.stored(),
    }


def make_timelines(
    files: Sequence[str | os.PathLike],
    model: ModelInUse,
    out: str | os.PathLike,
    *,
    settings: TimelineSettings,
    predict: PredictSettings,
) -> None:
    """Make the timelines of video files, `{out}/{name}.tsv` and its other files, and a page.

    The page `{out}/index.html` shows all films of the folder, also those of other calls.

    A timeline that is there already, of the same model, file and settings, is kept. Work of an
    interrupted call is in `{out}/{name}.work` and `{out}/{name}.shards`, and is used again.

    Args:
        files: The videos, of any format, rate and length.
        model: The model.
        out: Folder of the outputs.
        settings: How clips are placed and merged.
        predict: Batch size, device, processes and workers.

    Raises:
        EpicError: Some files are no videos that can be read; the timelines of the others are made.
    """
    # Names that cannot be.
    paths = [_video_path(file) for file in files]
    for name, count in Counter(path.stem for path in paths).items():
        if count > 1:
            raise EpicError(
                f"{name}: two videos have this name, and their outputs would be one file; expected "
                "different names, or a call with another --out for each"
            )
    if Path(out).exists() and not Path(out).is_dir():
        raise EpicError(f"{out}: is a file; expected a folder for the timelines; name another")

    # These two checks raise an EpicError if the GPU cannot be used or the folder cannot be written.
    # Otherwise both would be noticed only after a video has been scanned, which may take an hour.
    choose_device("predict", predict.device, predict.gpus, look_for_gpus())
    write_text(Path(out) / ".writable", "")
    (Path(out) / ".writable").unlink()

    # The timelines, and the page.
    page = Path(out) / "index.html"
    lacks_of_page = [] if model.names.by_task else [NO_NAMES]
    errors = []
    for path in paths:
        tsv = Path(out) / f"{path.stem}.tsv"
        try:
            _make_missing(path, model, tsv, settings, predict)
        # This error is about one file, so the next one is tried. Any other error would come with
        # each file.
        except FrameError as error:
            errors.append(str(error))
            add_film(page, path, {}, {}, [f"No timeline: {error}"])
            if len(paths) > 1:
                log.error(error)
        else:
            timeline = read_json(sibling(tsv, ".json"))
            add_film(page, path, timeline, model.class_names, lacks_of_page)
    log.info(f"{page}: open it in a browser")
    if errors and len(paths) == 1:
        raise EpicError(errors[0])
    if errors:
        raise EpicError(f"{len(errors)} of {len(paths)} videos have no timeline: {errors[0]}")


def _make_missing(
    path: Path,
    model: ModelInUse,
    tsv: Path,
    settings: TimelineSettings,
    predict: PredictSettings,
) -> None:
    """Scan a film and make its timeline, unless it is there already.

    Raises:
        FrameError: The film has no video that can be decoded.
    """
    if _is_made(tsv, made_from(model, path, settings)):
        log.info(f"{tsv}: is there already, of this model, video and settings")
        return
    work = sibling(tsv, ".work")
    try:
        make_timeline(_scanned(path, work), model, tsv, settings=settings, predict=predict)
    finally:
        shutil.rmtree(work / "copy", ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)


def _video_path(file: str | os.PathLike) -> Path:
    """Check that a name on the command line is that of a file, and return its path.

    Raises:
        EpicError: There is no such file, or its name cannot be that of a timeline.
    """
    text, path = shown(file), Path(file)
    if CONTROL.search(os.fspath(file)):
        raise EpicError(f"{text}: has a line break or a control character in its name; rename it")
    if re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE):
        raise EpicError(f"{text}: is a URL; expected a video file; download it first")
    if path.is_dir():
        raise EpicError(f"{text}: is a folder; expected a video file; name its files: {text}/*.MP4")
    if not path.is_file():
        raise EpicError(f"{text}: no such file; expected a video")
    if path.stem.endswith(TAKEN_ENDING):
        raise EpicError(
            f"{text}: its {path.stem}.json would be a file of another video's timeline; expected a "
            f"name without {TAKEN_ENDING!r}; rename it"
        )
    return path


def _scanned(path: Path, work: Path) -> ScannedVideo:
    """Scan a film outside the sheet, through a link with a name that a sheet allows.

    A film whose frames cannot be read as it is gets an MP4 copy in `{work}/copy`.

    Raises:
        FrameError: The film has no video that can be decoded.
        ProcessError: The disk has no room for the copy, or the machine fails.
    """
    file, index, is_encoded_anew = _readable(path, work)

    # A sheet of this film alone, and a link as an archive would have it. The sheet allows names of
    # up to 100 letters, digits, `_` and `-` (`base.errors.NAME`): "my film" becomes "my_film".
    safe_name = re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)[:99].lstrip("_-") or "video"
    video = Video(
        safe_name,
        participant_id=safe_name,
        split="test",
        fps=index.fps,
        duration=float(index.times[-1]) + 1 / index.fps,
    )
    link = video.path(work)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(file.resolve())

    # The scan.
    (row,) = scan_participant(
        [video],
        root=work,
        table=work / f"{safe_name}.tsv",
        index=index_path(work, safe_name),
        cache=work / "scanned",
    )
    if not row.readable:
        raise FrameError(f"{path}: {row.reason}; expected a video that can be decoded")
    if is_encoded_anew:
        # The scan has read the copy, so it says nothing of the bits of the film itself.
        row = replace(row, judged=DECODER_ONLY)
    return ScannedVideo(
        name=path.stem,
        root=work,
        path=os.fspath(video.path()),
        index_dir=work,
        index=load_index(index_path(work, safe_name), safe_name),
        row=row,
        source=path.resolve(),
    )


def _readable(path: Path, work: Path) -> tuple[Path, VideoIndex, bool]:
    """Return a file whose frames can be read, its index, and whether its frames are encoded anew.

    The file is the film itself, or else an MP4 copy of it in `{work}/copy`.

    Raises:
        FrameError: The film has no video that can be decoded.
        ProcessError: The disk has no room for the copy, or the machine fails.
    """
    file, left_out = path, None
    try:
        index = build_index(path)
    except FrameError:
        file = work / "copy/film.MP4"
        file.parent.mkdir(parents=True, exist_ok=True)
        index, left_out = make_copy(path, file)
    if left_out is not None:
        log.info(
            f"{path}: encoded anew for reading; {left_out} frames are left out, since they do not "
            "decode cleanly"
        )
    if index.frames < 2 or not index.fps:
        raise FrameError(f"{path}: {index.frames} frame in it; expected a video, with two or more")
    return file, index, left_out is not None


def _is_made(tsv: Path, made_from: dict) -> bool:
    """Tell whether all files of a timeline exist and were made from the same inputs."""
    if not all(sibling(tsv, suffix).is_file() for suffix in SUFFIXES):
        return False
    try:
        content = read_json(sibling(tsv, ".json"))
    except (OSError, ValueError):
        # A file that cannot be read is made again.
        return False
    return isinstance(content, dict) and content.get("made_from") == made_from
