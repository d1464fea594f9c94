"""Before the scans: can this training work at all? One screen of what is ready and what is missing.

The trial builds the model with the pairs of the raw segments, loads the start weights, and does one
training step and one validation. It runs as a process of its own (`early_call`).
"""

import contextlib
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from epic100.base.errors import EpicError
from epic100.base.gpu import look_for_gpus
from epic100.base.machine import usable_cores
from epic100.base.own_modules import use_modules
from epic100.clips.views import chosen_views, cost_of_views
from epic100.model.foreign_config import test_pipeline_of
from epic100.segments.annotations import index_segments, load_annotations
from epic100.segments.pairs import pairs_path, read_pairs
from epic100.settings import TrainSettings
from epic100.training.config import build_config
from epic100.training.config_heads import heads_of
from epic100.training.device import Placement, choose_device
from epic100.training.early_call import EarlyCheck
from epic100.training.head_check import head_outputs, require_head
from epic100.training.small_lists import (
    Few,
    few_segments,
    raw_pairs,
    stand_in,
    write_small_results,
)
from epic100.training.start_table import clip_text
from epic100.training.trial import Trial, lists_are_in, try_training
from epic100.video.on_disk import on_disk_lines
from epic100.video.sheet import Video, read_sheet

READY, LATER, WRONG = "ready", "later", "error:"
STATES_KEPT = 6  # checkpoints, best.pth, model.pth and room to write one
BYTES_PER_WEIGHT = 12  # float32: the weight and two moments of its optimizer
INDEX_BYTES_PER_HOUR = 20e6  # the index of an hour of video, and its copy in the scan's cache


class Screen:
    """The lines of a check, and the first error."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []
        self.error = ""

    def add(self, state: str, topic: str, words: str) -> None:
        """Add a line."""
        self.lines.append((state, topic, words))
        if state == WRONG:
            self.error = self.error or words

    @contextlib.contextmanager
    def part(self, topic: str) -> Iterator[None]:
        """Turn an error of the block into a line, so that the other topics are shown too."""
        try:
            yield
        except EpicError as error:
            self.add(WRONG, topic, str(error))

    def text(self) -> str:
        """One line per topic, below a line that sums up."""
        wrong = sum(state == WRONG for state, _, _ in self.lines)
        end = f"{wrong} of {len(self.lines)} topics stop this run" if wrong else "nothing is wrong"
        lines = [f"{state:8}{topic:12}{words}" for state, topic, words in self.lines]
        return "\n".join([f"Start check: {end}", *lines])


def check_early(check: EarlyCheck) -> Screen:
    """Check settings, annotations, videos, weights, a trial of the training, disk and device.

    Args:
        check: What to check.

    Returns:
        One line per topic.
    """
    screen = Screen()
    settings = TrainSettings.model_validate(check.settings)
    segments: dict[str, pd.DataFrame] = {}
    videos: list[Video] = []
    with screen.part("segments"):
        videos = read_sheet(check.sheet)
        segments = _segments(check, videos, screen)
    used = [video for video in videos if video.participant_id in check.participants]
    _videos(check, used, screen)
    placement = Placement("cpu", 1)
    with screen.part("device"):
        placement = _device(check, settings, screen)
    trial = None
    if not screen.error:
        with screen.part("training"):
            use_modules(check.modules)
            trial = _trial(check, settings, segments, placement, screen)
    with screen.part("disk"):
        _disk(check, segments, used, trial, screen)
    return screen


def _segments(check: EarlyCheck, videos: list[Video], screen: Screen) -> dict[str, pd.DataFrame]:
    """The raw segments of train and val of the participants that the run uses."""
    by_id = {video.video_id: video for video in videos}
    used = {v.path().as_posix() for v in videos if v.participant_id in check.participants}
    found = {}
    for split in ("train", "val"):
        path = check.annotations.get(split)
        if path is None or not Path(path).is_file():
            if path is not None and not check.annotations_to_come:
                raise EpicError(
                    f"{path}: no such file; expected the annotations of {split}: put them there, "
                    "or set `annotations: download: true`"
                )
            screen.add(LATER, "segments", f"{split}: {path} is not there yet")
            continue
        table = load_annotations(path, by_id, split=split, **check.reading)
        listed = index_segments(table, by_id)
        found[split] = listed[listed["path"].isin(used)].reset_index(drop=True)
        screen.add(READY, "segments", f"{split}: {len(found[split])} in {path}")
    return found


def _videos(check: EarlyCheck, videos: list[Video], screen: Screen) -> None:
    root = Path(check.video_root)
    there = {video.video_id for video in videos if video.path(root).exists()}
    first, *rest = on_disk_lines(videos, there, check.video_root) if videos else ["no sheet"]
    missing = len(there) < len(videos)
    words = "; the run makes the others" if missing and check.videos_to_come else ""
    screen.add(READY if there else LATER, "videos", first + words)
    for line in rest:
        screen.add(READY, "", line.strip())


def _device(check: EarlyCheck, settings: TrainSettings, screen: Screen) -> Placement:
    """Where the trial runs; what needs a GPU of another machine is checked there, first thing."""
    if check.remote:
        asked = "a CPU" if settings.device == "cpu" or settings.gpus == 0 else "a GPU"
        screen.add(LATER, "device", f"{asked} of another machine: checked first thing in the job")
        return Placement("cpu", 1)
    chosen = choose_device(settings.device, settings.gpus, look_for_gpus())
    name = "the CPU" if chosen.device == "cpu" else f"{chosen.processes} GPU"
    screen.add(READY, "device", f"{name}; {usable_cores()} cores")
    return Placement(chosen.device, 1)


def _trial(
    check: EarlyCheck,
    settings: TrainSettings,
    segments: dict[str, pd.DataFrame],
    placement: Placement,
    screen: Screen,
) -> Trial | None:
    train = segments.get("train", stand_in())
    val = segments.get("val", train.head(0))
    learned = train if settings.split == "train" else pd.concat([train, val], ignore_index=True)
    index_dir, classes = f"{check.results}/scan", (check.num_verbs, check.num_nouns)
    with tempfile.TemporaryDirectory(prefix="epic100_start_") as name:
        folder = Path(name)
        pairs = raw_pairs(learned)
        write_small_results(folder, settings.split, learned.head(2), val.head(2), pairs)
        if not lists_are_in(settings, folder):
            screen.add(LATER, "training", f"{settings.config} reads lists that are not made yet")
            return None
        config = build_config(settings, name, check.video_root, index_dir, classes)
        views = chosen_views(
            test_pipeline_of(config), check.views.get("clips"), check.views.get("crops", 1)
        )
        made = Path(pairs_path(check.results, settings.split))
        kept = _kept_pairs(made, learned, head_outputs(config))
        if kept is not None:  # the head has the size of the clean pairs of an earlier run
            learned, pairs = kept, raw_pairs(kept)
        elif "train" in segments:
            about = f"the train list of {check.annotations['train']}"
            require_head(config, len(pairs), classes, about)
        few = {
            "train": few_segments(learned, check.video_root, index_dir),
            "val": few_segments(val, check.video_root, index_dir),
        }
        lists = (few["train"].segments, few["val"].segments)
        write_small_results(folder, settings.split, *lists, pairs)
        blank = tuple(split for split, found in few.items() if not found.video)
        trial = try_training(
            settings, folder, check.video_root, index_dir, classes, placement, blank
        )
    _describe(check, trial, few, len(pairs), placement, screen)
    screen.add(READY, "prediction", cost_of_views(*views, len(segments.get("val", ()))))
    return trial


def _kept_pairs(made: Path, segments: pd.DataFrame, outputs: int | None) -> pd.DataFrame | None:
    """The segments of the pairs in an existing clean table, if the head has just their number."""
    if outputs is None or not made.is_file():
        return None
    known = {pair[:2] for pair in read_pairs(made)}
    if len(known) != outputs:
        return None
    own = [pair in known for pair in zip(segments["verb"], segments["noun"], strict=True)]
    return segments[own].reset_index(drop=True)


def _describe(
    check: EarlyCheck,
    trial: Trial,
    few: dict[str, Few],
    pairs: int,
    placement: Placement,
    screen: Screen,
) -> None:
    plan, weights = trial.check.plan, trial.check.weights
    if check.weights_to_come:
        screen.add(LATER, "weights", f"{check.weights_to_come}: fetched by the run")
    else:
        start = f"{check.settings['load_from']}: {weights.line()}" if weights else "random"
        screen.add(READY, "weights", start)
    head = plan.config.model.get("cls_head", {}).get("num_classes", "?")
    screen.add(
        READY, "model",
        f"{plan.config.model.type}, {trial.check.parameters / 1e6:.2f} M parameters; "
        f"{clip_text(plan.config)}; heads: {heads_of(plan.config)}, "
        f"{head} outputs; {pairs} pairs before cleaning",
    )  # fmt: skip
    what = few["train"].video or "grey pictures, as no video can be read"
    device = "the CPU" if placement.device == "cpu" else "a GPU"
    screen.add(
        READY, "training",
        f"one step{' and one validation' * trial.validated} on {what}: loss {trial.loss:.3g}, "
        f"{trial.seconds:.0f} s on {device}",
    )  # fmt: skip
    for split, found in few.items():
        if found.why:
            screen.add(LATER, "", f"{split}: no video of those tried can be read: {found.why}")


def _disk(
    check: EarlyCheck,
    segments: dict[str, pd.DataFrame],
    videos: list[Video],
    trial: Trial | None,
    screen: Screen,
) -> None:
    """Compare the free space with what scans, checkpoints and predictions need, roughly."""
    folder = Path(check.results).absolute()
    while not folder.exists():
        folder = folder.parent
    needed = sum(video.duration for video in videos) / 3600 * INDEX_BYTES_PER_HOUR
    if trial is not None:
        needed += trial.check.parameters * BYTES_PER_WEIGHT * STATES_KEPT
        head = trial.check.plan.config.model.get("cls_head", {}).get("num_classes", 0)
        needed += 2 * len(segments.get("val", ())) * head * 4 * 2  # val and test, shards and file
    free = shutil.disk_usage(folder).free
    words = f"{free / 1e9:.1f} GB free in {folder}; scans, checkpoints and predictions need about "
    words += f"{needed / 1e9:.1f} GB"
    if free < needed:
        raise EpicError(f"{words}; free some space, or choose another folder with --directory")
    screen.add(READY, "disk", words)


def main() -> None:
    """Read the check from stdin; print text and first error as the last line."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    check = EarlyCheck(**json.loads(sys.stdin.read()))
    with contextlib.redirect_stdout(sys.stderr):  # libraries print
        screen = check_early(check)
    sys.stdout.write(json.dumps({"text": screen.text(), "error": screen.error}) + "\n")


if __name__ == "__main__":
    main()
