"""Every key of a section: its name, type, default, limits and meaning. No other place has them.

The key table of config/README.md and the schema for editors are made from this file by
`make keys`. Nothing here needs torch, so that a DAG can import it quickly.
"""

import os
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from epic100.settings.section import Section, key, number_of

AUTO = "auto"


def _expanded(path: str) -> str:
    """A path with `~` and `$VAR` replaced."""
    found = os.path.expanduser(os.path.expandvars(path))
    if missing := re.search(r"\$\{?(\w+)", found):
        raise ValueError(f"the environment has no variable {missing[1]}")
    return found


def unique(values: list[Any]) -> list[Any]:
    """The values, each of which may be there once."""
    if any(value in values[:place] for place, value in enumerate(values)):
        raise ValueError("expected each value once")
    return values


FilePath = Annotated[str, AfterValidator(_expanded)]
Names = Annotated[list[str], AfterValidator(unique)]
Files = Annotated[list[FilePath], AfterValidator(unique)]
Module = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_.]*$")]
RunName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Heads = Literal["pair", "verb_noun", "both"]
Some = Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1), AfterValidator(unique)]
Share = Annotated[float, Field(ge=0, lt=1)]
Grid = Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(min_length=2, max_length=2)]
Seconds = Annotated[float, Field(ge=0.01, le=3600)]


class Annotations(Section):
    """Official CSVs, from github.com/epic-kitchens/epic-kitchens-100-annotations."""

    train: FilePath = key("annotations/EPIC_100_train.csv", "official CSV")
    val: FilePath = key("annotations/EPIC_100_validation.csv", "official CSV")
    test: FilePath | None = key(None, "EPIC_100_test_timestamps.csv; null: no test predictions")
    format: Literal["official", "lab_list"] = key(
        "official",
        "`lab_list`: lines `path start stop verb noun` whose frames count on the annotation clock "
        "(60 a second for P01_01, 50 for P01_101)",
    )
    download: bool = key(
        False, "fetch the CSVs and lists that are missing, and verify all (docs/data.md)"
    )
    sheet: FilePath = key(
        "config/annotations.tsv", "the URL of each official file at a pinned commit, its checksum"
    )


class Classes(Section):
    """Number of classes; ids run from 0."""

    verbs: int = key(97, "verb classes", ge=1)
    nouns: int = key(300, "noun classes", ge=1)


class PictureSettings(Section):
    """What decides the pictures of a copy or a clip."""

    height: int = key(
        256, "pixels (of upright pictures, the width); a smaller original keeps its own", ge=16
    )
    gop: int = key(60, "frames from key frame to key frame", ge=1)
    crf: float = key(23, "x264's rate factor, lower is better and larger", ge=0, le=51)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the copy: in proportion, even, never above the original's."""
        scale = min(1.0, self.height / min(width, height))
        across, down = (max(2, 2 * round(side * scale / 2)) for side in (width, height))
        return across, down

    def options(self) -> dict[str, str]:
        """Options of libx264."""
        x264 = f"keyint={self.gop}:min-keyint=1:scenecut=0:{self._between()}:open-gop=0"
        return {
            "preset": "veryfast",
            "crf": str(self.crf),
            "threads": "1",
            "a53cc": "0",
            "x264-params": x264,
        }

    def _between(self) -> str:
        """x264's options about B-frames."""
        return "bframes=0"


class ProxySettings(PictureSettings):
    """Small copies with key frames close together, to read clips from (docs/data.md)."""

    gop: int = key(30, "frames from key frame to key frame", ge=1)
    crf: float = key(18, "x264's rate factor, lower is better and larger", ge=0, le=51)
    b_frames: int = key(
        5,
        "frames on which no other depends, in a row; those that are not wanted are not decoded",
        ge=0,
        le=16,
    )
    root: FilePath = key(
        "results/proxies",
        "copies are at {root}/{participant_id}/{video_id}.MP4",
        of_inputs=True,
    )

    def options(self) -> dict[str, str]:
        """Options of libx264: those of clips, but fast to decode."""
        return super().options() | {"tune": "fastdecode"}

    def _between(self) -> str:
        """Always as many as set (b-adapt=0), and never references of each other (b-pyramid)."""
        return f"bframes={self.b_frames}:b-adapt=0:b-pyramid=none"


class Videos(Section):
    """Which videos there are, and in which folder."""

    root: FilePath = key(
        "videos",
        "files are at {root}/{participant}/{video}.MP4, {root}/{participant}/videos/{video}.MP4 or "
        "{root}/{video}.MP4; `.mp4` will do",
    )
    pattern: str | None = key(
        None,
        "where each file is below `root` if it is at none of these: a path with {video} and, where "
        "wanted, {participant} in it, such as `all/{participant}/{video}_small.mkv`",
        pattern=r"^([^{}]|\{participant\})*\{video\}([^{}]|\{participant\}|\{video\})*$",
    )
    sheet: FilePath = key("config/videos.tsv", "the list of videos (below)")
    subset: bool = key(
        False,
        "the sheet lists fewer videos than the CSVs on purpose: leave out the segments of the "
        "others instead of refusing them",
    )
    download: bool = key(
        False, "fetch missing videos from the sheet's `url`, verify all by its `md5`"
    )
    accept: Names = key([], "videos to use although their length is in doubt (docs/damage.md)")
    private_hosts: Names = key(
        [], "hosts of a private network that urls of the sheets may name; others are not asked"
    )
    proxy: ProxySettings | None = key(None, "small copies to read clips from; {}: these defaults")

    @property
    def place(self) -> str:
        """Where `find_files` looks: the root, with the pattern if there is one."""
        return os.path.join(self.root, self.pattern) if self.pattern else self.root


class Participants(Section):
    """Who takes part."""

    exclude: Names = key(
        [], "participants left out: not scanned, their segments dropped with that reason"
    )
    include: Names = key([], "participants that take part, without those of `exclude`; []: all")


class ScanLimits(Section):
    """What one video may take, so that no file can hang a scan."""

    stall_seconds: float = key(60, "a video is given up after so long without a frame", gt=0)
    min_seconds: float = key(300, "every video may take so long, and more by its length", gt=0)
    seconds_per_second: float = key(2, "seconds allowed for each second of video, on top", ge=0)
    memory_mib: int = key(3072, "address space of one decoder in MiB; 0: no limit", ge=0)
    max_pixels: int = key(
        16777216, "pixels of the largest picture that is decoded; larger ones are unreadable", ge=1
    )

    def total(self, seconds: float) -> float:
        """Seconds that the work on a video of this length may take, while it has the machine."""
        return self.min_seconds + self.seconds_per_second * seconds


class ScanSettings(ScanLimits):
    """How videos are scanned."""

    quick: bool = key(
        False,
        "read all packets but decode key frames only: a first look that misses damage between "
        "them. Its results are never taken for a full scan's",
    )


class Cleaning(Section):
    """What to do with damaged videos."""

    policy: Literal["segment", "video"] = key(
        "segment", "drop segments that touch damaged frames; `video`: the whole video"
    )


class OnDevice(Section):
    """Where a job computes."""

    device: Literal["auto", "cuda", "cpu"] = key(
        "auto",
        "a GPU if there is one; if the job was granted one (by a cluster, "
        "`CUDA_VISIBLE_DEVICES`, or the rule's `gpu` in a job) and torch cannot use it, the "
        "job fails; `cpu`: the CPU, whatever was granted",
    )
    gpus: int | None = key(
        None,
        "GPUs of a node, one process each; null: one if there is one, and one is asked for; "
        "0: the CPU; with `device: cpu` the number of processes",
        ge=0,
    )

    @model_validator(mode="after")
    def _one_device(self) -> Self:
        if self.device == "cuda" and self.gpus == 0:
            raise ValueError("gpus is 0 and device is cuda; set one of the two otherwise")
        return self

    @property
    def gpus_to_ask(self) -> int:
        """Number of GPUs that the job requests from its scheduler."""
        if self.device == "cpu":
            return 0
        return 1 if self.gpus is None else self.gpus


class CheckpointSettings(Section):
    """When the state of a training is saved, besides after each epoch."""

    seconds: float | None = key(600, "so long after the last save; null: never", gt=0)
    keep: int = key(2, "how many of the newest stay, besides the best by val action top-1", ge=2)


class ValidateSettings(Section):
    """Validation during training; null: as in the MMEngine config."""

    every: int | None = key(None, "after so many epochs, and after the last", ge=1)
    segments: int | None = key(None, "on so many segments, spread evenly over the val list", ge=1)


class TrainSettings(OnDevice):
    """Training; null: as in the MMEngine config."""

    config: FilePath = key(
        "config/x3d_s_epic_rgb_segments.py",
        "MMEngine config: model, pipelines, schedule",
        sweep=True,
        of_inputs=True,
    )
    split: Literal["train", "trainval"] = key(
        "train", "`trainval`: on train and val together, with their own pair table (below)"
    )
    load_from: FilePath | None = key(
        AUTO,
        "weights to start from: a path or URL; `auto`: those that the MMEngine config names. "
        "Another head size is allowed, and reported",
        of_inputs=True,
    )
    load_from_sha256: str | None = key(
        None,
        "the digest of those weights, if their name has none or another one",
        pattern="^[0-9a-f]{64}$",
        of_inputs=True,
    )
    from_scratch: bool = key(
        False, "start from random weights, even if the schedule is for fine-tuning", of_inputs=True
    )
    epochs: int | None = key(
        None, "number of epochs; schedules that end with the training follow it", sweep=True, ge=1
    )
    batch_size: int | None = key(
        None, "segments a step, over all processes and parts", sweep=True, ge=1
    )
    workers: int | None = key(
        None,
        "loader processes of each training process; null: on a CPU as in the MMEngine config, on "
        "GPUs the job's cores divided by its processes, minus one",
        ge=0,
    )
    max_broken: float = key(
        0.01,
        "share of clips that may fail to decode, although the scan passed their video, before the "
        "run stops with a list; others stand in for them",
        ge=0,
        le=1,
    )
    nodes: int = key(1, "nodes of one job, each with `gpus` GPUs (docs/training.md)", ge=1)
    precision: Literal["fp32", "bf16", "fp16"] | None = key(
        None,
        "autocast on a GPU; bf16 needs an A100 or newer; null: as in the MMEngine config, and fp32 "
        "on a CPU",
        sweep=True,
    )
    channels_last: bool | None = key(
        None,
        "the layout of the backbone's weights; null: channels-last on a CPU, and on a GPU with "
        "bf16 or fp16 (docs/training.md)",
    )
    compile: bool = key(False, "run the backbone through torch.compile")
    bn: Literal["local", "sync", "frozen"] = key(
        "local",
        "BatchNorm uses each process's part of the batch; `sync`: the whole batch (GPUs only); "
        "`frozen`: the statistics that it starts with, scale and shift fixed too",
        sweep=True,
    )
    accumulate: int | None = key(
        None,
        "process each batch in so many parts, so that only one needs memory at a time; null: as in "
        "the MMEngine config",
        ge=1,
    )
    scale_lr: bool | None = key(
        None,
        "multiply the learning rate by `batch_size` / `auto_scale_lr.base_batch_size`",
        sweep=True,
    )
    label_smoothing: Share | None = key(
        None, "share of each label that is spread over its head's classes", sweep=True
    )
    ema: float | None = key(
        None,
        "decay of a moving average of the weights, e.g. 0.9999; the average is then the model; "
        "null: none",
        sweep=True,
        gt=0,
        lt=1,
    )
    dropout: Share | None = key(None, "dropout before the last layer", sweep=True)
    heads: Heads | None = key(
        None, "what the last layer predicts: `pair`, `verb_noun`, or `both` (below)", sweep=True
    )
    seed: int = key(0, "seed of initial weights, order, augmentation and dropout", sweep=True, ge=0)
    checkpoint: CheckpointSettings = key(CheckpointSettings(), "when the state is saved")
    # pydantic's models have an attribute of this name.
    validation: ValidateSettings = key(ValidateSettings(), "on what, and when", alias="validate")
    options: dict[str, Annotated[Any, BeforeValidator(number_of)]] = key(
        {},
        "any other key of the MMEngine config, dotted, applied last: "
        '`{"optim_wrapper.optimizer.lr": 0.01}`; one that nothing reads is refused',
        sweep=True,
    )

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.from_scratch and self.load_from not in (None, AUTO):
            raise ValueError(
                f"`train: from_scratch:` is true, but `load_from:` is {self.load_from!r}; expected "
                "one of the two"
            )
        return self

    @property
    def gpus_to_ask(self) -> int:
        """Number of GPUs that the job requests from its scheduler, on all nodes."""
        return self.nodes * super().gpus_to_ask

    def begun_with(self, config: str, weights: str | None) -> Self:
        """The settings of a training whose files are known.

        Args:
            config: The MMEngine config file.
            weights: The file of the start weights; None for random ones.
        """
        return self.model_copy(
            update={"config": config, "load_from": weights, "from_scratch": False}
        )

    @property
    def resources_of_nodes(self) -> dict[str, int | str]:
        """What a job over several nodes requests besides GPUs: one task a node.

        With `mpi` the executor runs the job's command on the first node only and leaves it to the
        command to start the others. `tasks_per_gpu: 0` keeps it from taking `tasks` as tasks of a
        GPU.
        """
        if self.nodes == 1:
            return {}
        return {"mpi": "yes", "nodes": self.nodes, "tasks": self.nodes, "tasks_per_gpu": 0}


class Modules(Section):
    """Models and pipeline steps of your own, for training and prediction (below)."""

    folder: FilePath | None = key(
        None, "folder that the modules are in; it comes last on Python's import path"
    )
    imports: Annotated[list[Module], AfterValidator(unique)] = key(
        [], "modules to import, which register their classes"
    )


class PredictSettings(OnDevice):
    """Views of a segment, averaged as probabilities."""

    model: FilePath | None = key(
        None,
        "a finished model to predict with, e.g. a lab's (docs/migration.md); null: train one",
        of_inputs=True,
    )
    models: Files = key(
        [],
        "finished models whose probabilities are averaged; their pair tables may differ",
        of_inputs=True,
    )
    clips: int | None = key(
        None,
        "clips, spread evenly over the segment; null: 10 for dense clips, 1 for frames spread over "
        "the segment",
        ge=1,
    )
    crops: Literal[1, 3, "whole"] = key(
        1,
        "crops of each clip: 1 (centre), 3 (along the long side), or `whole` (the whole picture, "
        "for models that take any size)",
    )
    batch_size: int | None = key(
        None,
        "segments a step; of their views as many go through the model together, or fewer if they "
        "do not fit into a GPU; null: 8 on a CPU and with an encoder of yours, 32 on a GPU",
        ge=1,
    )
    encoder: FilePath | None = key(
        None, "the folder of a probe's encoder; null: where it was when the probe was trained"
    )
    workers: int | None = key(
        None,
        "loader processes of each process; null: two on a CPU, and beside a GPU the job's cores "
        "divided by its processes, minus one",
        ge=0,
    )


class ClipSettings(PictureSettings):
    """A file for each segment, `results/clips/{split}/list.txt` (docs/clips.md)."""

    max_kbit: int | None = key(
        None,
        "most kilobits a second of a clip, half a second of them more in all; 90 keeps those of "
        "val below 500 MB; null: no limit",
        ge=16,
    )

    def options(self) -> dict[str, str]:
        """Options of libx264."""
        options = super().options()
        if self.max_kbit is not None:
            options |= {"maxrate": f"{self.max_kbit}k", "bufsize": f"{max(1, self.max_kbit // 2)}k"}
        return options


class Windows(Section):
    """Where clips are in a whole video."""

    stride: Seconds = key(0.5, "seconds from clip to clip")
    window: Seconds | None = key(
        None,
        "seconds of a clip; null: what a dense clip spans, 2 s for frames spread over a segment",
    )


class TimelineSettings(Windows):
    """Whole videos, `results/timeline/{video_id}.tsv` (docs/timeline.md)."""

    smooth: float = key(
        1.0, "seconds over which probabilities are averaged; 0: not at all", ge=0, le=3600
    )
    threshold: float = key(0.2, "least mean probability of a segment's pair", ge=0, le=1)
    min_seconds: float = key(0.8, "length of the shortest segment", ge=0, le=3600)
    background: bool = key(
        False, "leave out where nothing happens, as learned from the gaps between train segments"
    )


class FeatureSettings(Windows):
    """Features of whole videos or of segments, in `results/features/` (docs/features.md)."""

    encoder: str = key(
        "model",
        "`model` (the trained one), `hf` (a folder of Hugging Face), or `module:Class`, an "
        "encoder of your own",
        pattern="^(model|hf|[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*)$",
    )
    path: FilePath | None = key(None, "the folder of `encoder: hf`", of_inputs=True)
    grid: Grid = key(
        [8, 4],
        "`[time, side]`: for a probe, up to time x side x side tokens of each segment",
    )


class BrowseSettings(Section):
    """The page to look at, `results/browse/index.html` (docs/browse.md)."""

    splits: list[Literal["train", "val", "test"]] = key(
        ["val"], "splits whose segments are listed; predictions and clips are of val"
    )
    runs: Annotated[list[RunName], AfterValidator(unique), Field(max_length=2)] = key(
        [],
        "one finished run to show, or two side by side, in `results/browse/`; `default` is the run "
        "without a name; []: this run, in its own folder",
    )
    max_mb: int = key(500, "most megabytes of clips; those of wrong guesses come first", ge=0)

    @field_validator("splits", mode="after")
    @classmethod
    def _with_val(cls, splits: list[str]) -> list[str]:
        if "val" not in splits:
            raise ValueError("expected val among them, since the predictions are of val")
        return unique(splits)


class ProbeSettings(Section):
    """The model of this run is a probe on features of another run (docs/features.md)."""

    of: RunName | None = key(
        None, "the run whose model gives the features; null: the default run", of_inputs=True
    )
    kind: Literal["small", "attentive"] = key(
        "small", "`attentive`: four blocks of 16 heads, as in V-JEPA 2's evaluation"
    )
    device: Literal["cpu", "cuda"] = key("cpu", "where it is trained; `cuda`: on one GPU")
    heads: Heads = key("both", "what the last layer predicts, as `train.heads`")
    epochs: int = key(30, "passes over the training segments", ge=1)
    batch_size: int = key(64, "segments a step", ge=1)
    lr: Annotated[float, Field(gt=0)] | Some = key(
        0.001, "learning rate at the start, which falls to zero as a cosine, or a list to try"
    )
    weight_decay: Annotated[float, Field(ge=0)] | Some = key(
        0.05, "weight decay of AdamW, or a list to try"
    )
    choose: Literal["train", "val"] = key(
        "train",
        "what chooses among several rates and decays: a tenth of train's videos, held back, or "
        "`val`, as V-JEPA 2's evaluation does; the report says so",
    )
    dropout: Share = key(0.5, "dropout on the features and before the last layer")
    label_smoothing: Share = key(0.1, "share of each label that is spread over its head's classes")
    seed: int = key(0, "decides the first weights, the order and the dropout", ge=0)


class Supervision(Section):
    """Levels that the server asks for; a contradiction with the training is reported."""

    pt: int = key(2, "pretraining", ge=0, le=5)
    tl: int = key(3, "training labels", ge=0, le=5)
    td: int = key(3, "training data; 4 with train and val", ge=0, le=5)


class ExportSettings(Section):
    """The submission."""

    split: Literal["val", "test"] | None = key(
        None,
        "null: each file is for its own board; `val` or `test`: both are of it (below)",
        of_inputs=True,
    )
    reduce: Literal["logsumexp", "max", "heads", "joint"] | None = key(
        None,
        "`max`: best actions; `logsumexp`: best verbs and nouns; `heads`: the scores of heads for "
        "verbs and nouns; `joint`: best actions of both kinds of heads; null: `max` if the model "
        "has a head over pairs, else `heads`",
    )
    sls: Supervision = key(Supervision(), "supervision levels")


class OfficialLists(Section):
    """Lists behind some figures; null: the file with the official name beside the val CSV."""

    tail_verbs: FilePath | None = key(None, "EPIC_100_tail_verbs.csv")
    tail_nouns: FilePath | None = key(None, "EPIC_100_tail_nouns.csv")
    unseen_participants: FilePath | None = key(
        None, "EPIC_100_unseen_participant_ids_validation.csv (not the test split's list)"
    )
    verb_classes: FilePath | None = key(
        None, "EPIC_100_verb_classes.csv, the report's names; absent: the annotators' words"
    )
    noun_classes: FilePath | None = key(None, "EPIC_100_noun_classes.csv, likewise")


class Minikitchen(Section):
    """The demo only: the workflow makes its own annotations and videos."""

    seed: int = key(0, "decides everything in it", ge=0)
    level: Literal["easy", "hard"] = key(
        "easy",
        "`hard`: verbs that differ only in direction, small nouns off centre, a long tail "
        "(docs/recipe.md)",
    )
    damage: dict[str, Literal["truncated", "zeroed", "bitflips", "empty", "missing"]] = key(
        {}, "damage done to finished files, by video_id"
    )
