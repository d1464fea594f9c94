"""The complete config: all sections, the runs of a sweep, and checks of keys against each other."""

import copy
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from epic100.base.shipped import ROOT, existing_path
from epic100.settings.data import (
    Annotations,
    Classes,
    Cleaning,
    Minikitchen,
    OfficialLists,
    Participants,
    ScanLimits,
    Videos,
)
from epic100.settings.layers import merge, read_layer
from epic100.settings.prediction import (
    BrowseSettings,
    ExportSettings,
    FeatureSettings,
    PredictSettings,
    TimelineSettings,
)
from epic100.settings.section import RunName, Section, checked_section, key, sentence_of
from epic100.settings.training import Modules, Sweep, TrainSettings

RESULTS = "results"
RUNS = f"{RESULTS}/runs"
DEFAULT = "default"  # Pages that compare runs show the run in `results/` under this name.
# Each value of `export: reduce:` needs one of these values of `heads:`.
HEADS_FOR: dict[str | None, tuple[str, ...]] = {"heads": ("verb_noun", "both"), "joint": ("both",)}
# A run with these files is finished, and can be compared.
FILES_OF_FINISHED_RUN = ("metrics.json", "predictions/val.pt")


def home_of(run: str | None) -> str:
    """Return the folder of a run's model, predictions and metrics; None is the default run."""
    return f"{RUNS}/{run}" if run else RESULTS


class Settings(Section):
    """The config of the EPIC-KITCHENS-100 workflow. Relative paths are relative to the working
    directory (`snakemake --directory`); a file that is missing there is searched in the
    workflow's own folder."""

    annotations: Annotations = key(Annotations(), "official CSVs")
    classes: Classes = key(Classes(), "number of classes")
    videos: Videos = key(Videos(), "which videos there are")
    participants: Participants = key(Participants(), "who takes part")
    scan: ScanLimits = key(ScanLimits(), "how videos are scanned")
    clean: Cleaning = key(Cleaning(), "what to do with damage")
    train: TrainSettings = key(TrainSettings(), "training")
    modules: Modules = key(Modules(), "models of your own")
    predict: PredictSettings = key(PredictSettings(), "prediction")
    timeline: TimelineSettings = key(TimelineSettings(), "complete videos")
    features: FeatureSettings = key(FeatureSettings(), "features of complete videos")
    browse: BrowseSettings = key(BrowseSettings(), "the page to look at")
    export: ExportSettings = key(ExportSettings(), "the submission")
    evaluate: OfficialLists = key(OfficialLists(), "official lists")
    run: RunName | None = key(
        None,
        "a name: this run's model, predictions, metrics and submission are in "
        "`results/runs/{name}/`, next to the folders of other runs (below)",
    )
    sweep: Sweep | None = key(None, "a run for each combination of values (below)")
    minikitchen: Minikitchen | None = key(None, "the demo only (`demo.yaml`)")

    @property
    def annotation_arguments(self) -> dict[str, Any]:
        """The arguments of `read_annotations` that the config decides, as plain values."""
        return {
            "classes": self.classes.model_dump(),
            "subset": self.videos.subset,
        }

    @property
    def trains(self) -> bool:
        """Whether the model of this config is trained, by the rule `train`."""
        return not (self.predict.models or self.predict.model)

    @property
    def doubts(self) -> list[str]:
        """A sentence about each value that is allowed, but hardly meant."""
        doubts = []
        td, split = self.export.sls.td, self.train.split
        # The level 4 means: trained on train and val.
        expected = {"train": "3 or less", "trainval": "4"}[split]
        if self.trains and (td == 4) != (split == "trainval"):
            doubts.append(f"export.sls.td is {td}, and train.split is {split}; expected {expected}")
        is_official = os.path.basename(self.annotations.val) == "EPIC_100_validation.csv"
        if is_official and not self.annotations.name and self.classes != Classes():
            doubts.append(
                f"classes.verbs is {self.classes.verbs}, and classes.nouns {self.classes.nouns}; "
                "EPIC-KITCHENS-100 has 97 and 300"
            )
        return doubts

    @property
    def home(self) -> str:
        """The folder of the model, predictions and metrics; with a sweep it has `{run}` in it."""
        return f"{RUNS}/{{run}}" if self.sweep else home_of(self.run)

    @cached_property
    def runs(self) -> dict[str, TrainSettings]:
        """The settings of the training of each run of a sweep, by the name of the run.

        There is a run for every combination of the values, and none without `sweep:`. The name of a
        run has the last part of each key and its value, in alphabetical order: `lr0.01_seed0`.

        Raises:
            ValueError: Two runs have the same name, or the settings of one contradict each other.
        """
        runs: dict[str, TrainSettings] = {}
        axes = self.sweep.axes() if self.sweep else {}
        # Without axes, `product` would give one run with an empty name.
        if not axes:
            return runs
        for values in itertools.product(*axes.values()):
            section, parts = self.train.model_dump(by_alias=True), []
            for axis, value in zip(axes, values, strict=True):
                keys = section if axis in TrainSettings.model_fields else section["options"]
                keys[axis] = value
                parts.append(axis.rpartition(".")[2] + _as_name(value))
            name = "_".join(parts)
            if name in runs:
                raise ValueError(
                    f"`sweep:` has two runs with the name {name}; remove a value that is listed "
                    "twice, or train one of them with `run:`"
                )
            try:
                runs[name] = TrainSettings.model_validate(section)
            except ValidationError as error:
                raise ValueError(
                    f"sweep.train: {sentence_of(error.errors()[0], TrainSettings)}"
                ) from error
        return runs

    def of_run(self, run: str | None) -> "Settings":
        """Return the config of one run of a sweep; without a sweep, this config."""
        return self.model_copy(update={"train": self.runs[run]}) if run and self.sweep else self

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        """Reject keys that contradict each other."""
        if contradictions := list(self._contradictions()):
            raise ValueError("\n".join(contradictions))
        # The property is read for its exception: a combination of `sweep:` may contradict itself.
        assert self.runs is not None
        return self

    def _contradictions(self) -> Iterator[str]:
        """Yield a sentence for each pair of keys that contradict each other."""
        finished_models = self.predict.model or self.predict.models
        if self.minikitchen and (self.videos.download or self.annotations.download):
            yield "`minikitchen` makes its own files; `download: true` is of no use"
        if self.videos.pattern and (self.videos.download or self.minikitchen):
            yield (
                "`videos: pattern:` is set, but `download: true` and the demo put their files at "
                "{root}/{participant}/{video}.MP4; remove one of the two"
            )
        heads, reduce = self.train.heads, self.export.reduce
        if heads and not finished_models and heads not in HEADS_FOR.get(reduce, (heads,)):
            yield (
                f"`export: reduce: {reduce}` folds heads that `heads: {heads}` does not have; "
                f"expected `heads: {HEADS_FOR[reduce][-1]}`, or another `reduce:`"
            )
        if self.predict.model and self.predict.models:
            yield "`predict: model:` and `models:` are both set; expected one"
        train, val = map(os.path.normpath, (self.annotations.train, self.annotations.val))
        if train == val and self.annotations.train:
            yield "`annotations: train:` and `val:` are the same file; expected one for each"
        if self.run == DEFAULT:
            yield "`run: default` is the run without a name; leave `run:` out"
        if self.run and self.sweep:
            yield "`run:` and `sweep:` are both set; expected one of the two"
        if self.sweep and finished_models:
            yield "a `sweep:` trains its models, but `predict:` names finished ones; remove one"
        if (self.features.encoder == "hf") != (self.features.path is not None):
            yield "`features: encoder: hf` goes with `path:`, a folder, and no other encoder does"


def _as_name(value: Any) -> str:
    """Write a value as part of a folder's name: 0.1 as `0.1`, `config/a b.py` as `a-b`."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = Path(text).stem if text.endswith(".py") else text
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text)


def runs_to_compare(
    own: Sequence[str | None], folder: str | os.PathLike = ""
) -> tuple[list[str | None], list[str | None]]:
    """Return the runs that `results/compare.html` shows; None is the default run.

    Args:
        own: The runs of this config.
        folder: The working folder.

    Returns:
        The runs of this config, which are made if they are missing or out of date; and the other
        finished runs, which are shown as they are. The default run is left out if it was never made
        and others were.
    """
    names = sorted(path.name for path in Path(folder, RUNS).glob("*"))
    finished: list[str | None] = []
    for run in (None, *names):
        home = Path(folder, home_of(run))
        if all((home / name).is_file() for name in FILES_OF_FINISHED_RUN):
            finished.append(run)
    # Whoever trained only named runs does not want the default run trained for the comparison.
    if list(own) == [None] and finished and None not in finished:
        return [], finished
    return list(own), [run for run in finished if run not in own]


BASE_CONFIG = "config/config.yaml"


def read_settings(config: Mapping[str, Any], files: Sequence[str | os.PathLike] = ()) -> Settings:
    """Check a config and fill in the defaults.

    Args:
        config: The config, as Snakemake has merged it.
        files: The files that it was read from, which are checked first.

    Raises:
        EpicError: Keys or values are wrong. The message has a line for each.
    """
    for file in files:
        read_layer(file)
    return checked_section(Settings, config, "config: ")


def layered_settings(
    overlays: Sequence[str | os.PathLike],
    directory: str | os.PathLike = "",
    typed: Mapping[str, Any] | None = None,
) -> Settings:
    """Read the config that Snakemake would use in `directory` with these `--configfile`s.

    The base is `config/config.yaml` of the folder, or the shipped one if the folder has none. The
    overlays are merged into it key by key, in order.

    Args:
        overlays: Paths of further config files, of the current folder or shipped.
        directory: The working folder of the run.
        typed: Keys of the command line, which go over all files.

    Raises:
        EpicError: A file is missing or is not YAML, or a key or value in it is wrong.
    """
    base = Path(directory, BASE_CONFIG)
    if not base.is_file():
        base = ROOT / BASE_CONFIG
    config = read_layer(base)
    for path in overlays:
        merge(config, read_layer(existing_path(path)))
    merge(config, copy.deepcopy(typed or {}))
    return checked_section(Settings, config, "config: ")
