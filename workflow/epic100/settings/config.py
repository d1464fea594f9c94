"""The whole config: all sections, the runs of a sweep, and checks of keys against each other."""

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import ValidationInfo, model_validator

from epic100.settings.inputs import (
    Annotations,
    Classes,
    Minikitchen,
    OfficialLists,
    Participants,
    Videos,
)
from epic100.settings.prediction import FeatureSettings, PredictSettings, TimelineSettings
from epic100.settings.results import BrowseSettings, ExportSettings
from epic100.settings.section import Section, extras_of, key
from epic100.settings.training import Modules, Sweep, TrainSettings
from epic100.settings.values import RunName
from epic100.settings.videos import Cleaning, ScanLimits

RESULTS = "results"
RUNS = f"{RESULTS}/runs"
DEFAULT = "default"  # Pages that compare runs show the run in `results/` under this name.
# Each value of `export: reduce:` needs one of these values of `heads:`.
HEADS_FOR: dict[str | None, tuple[str, ...]] = {"heads": ("verb_noun", "both"), "joint": ("both",)}
# A run with these files is finished, and can be compared.
FILES_OF_FINISHED_RUN = ("metrics.json", "predictions/val.pt")
# Several rules pass these names of sections and keys to `Settings.only`: those that decide how
# annotations are read, and how a model predicts.
ANNOTATION_KEYS = ("classes", "annotations.format", "videos.subset")
PREDICTION_KEYS = ("predict", "modules")


def home_of(run: str | None) -> str:
    """Return the folder of a run's model, predictions and figures; None is the default run."""
    return f"{RUNS}/{run}" if run else RESULTS


class Settings(Section):
    """The config of the EPIC-KITCHENS-100 workflow. Relative paths are relative to the working
    directory (`snakemake --directory`); a file that is missing there is looked for in the
    workflow's own folder."""

    gone: ClassVar[Mapping[str, str]] = {
        "clips": "FFmpeg cuts segments into files (docs/data.md), and the clips of the page to "
        "browse have one size",
        "probe": "a frozen encoder is a recipe now; set `train: config: "
        "config/zoo/hf_attentive.py` and `train: encoder: FOLDER` (docs/training.md)",
    }

    annotations: Annotations = key(Annotations(), "official CSVs")
    classes: Classes = key(Classes(), "number of classes")
    videos: Videos = key(Videos(), "which videos there are")
    participants: Participants = key(Participants(), "who takes part")
    scan: ScanLimits = key(ScanLimits(), "how videos are scanned")
    clean: Cleaning = key(Cleaning(), "what to do with damage")
    train: TrainSettings = key(TrainSettings(), "training")
    modules: Modules = key(Modules(), "models of your own")
    predict: PredictSettings = key(PredictSettings(), "prediction")
    timeline: TimelineSettings = key(TimelineSettings(), "whole videos")
    features: FeatureSettings = key(FeatureSettings(), "features of whole videos")
    browse: BrowseSettings = key(BrowseSettings(), "the page to look at")
    export: ExportSettings = key(ExportSettings(), "the submission")
    evaluate: OfficialLists = key(OfficialLists(), "official lists")
    run: RunName | None = key(
        None,
        "a name: this run's model, predictions, figures and submission are in "
        "`results/runs/{name}/`, beside those of other runs (below)",
    )
    sweep: Sweep | None = key(None, "a run for each combination of values (below)")
    minikitchen: Minikitchen | None = key(None, "the demo only (`demo.yaml`)")

    @property
    def annotation_arguments(self) -> dict[str, Any]:
        """The arguments of `load_annotations` that the config decides."""
        return {
            "classes": self.classes.model_dump(),
            "format": self.annotations.format,
            "subset": self.videos.subset,
        }

    @property
    def trains(self) -> bool:
        """Whether the model of this config is trained, by the rule `train`."""
        return not (self.predict.models or self.predict.model)

    @property
    def home(self) -> str:
        """The folder of the model, predictions and figures; with a sweep it has `{run}` in it."""
        return f"{RUNS}/{{run}}" if self.sweep else home_of(self.run)

    @cached_property
    def runs(self) -> dict[str, TrainSettings]:
        """The settings of the training of each run of a sweep, by the name of the run.

        There is a run for every combination of the values, and none without `sweep:`. The name of a
        run has the last part of each key and its value, in alphabetical order: `lr0.01_seed0`.

        Raises:
            ValueError: Two runs have the same name, or the settings of one contradict each other.
        """
        axes = self.sweep.axes() if self.sweep else {}
        runs: dict[str, TrainSettings] = {}
        # Without axes, `product` would give one run with an empty name.
        for values in itertools.product(*axes.values()) if axes else ():
            chosen = dict(zip(axes, values, strict=True))
            section = self.train.model_dump(by_alias=True)
            for axis, value in chosen.items():
                keys = section if axis in TrainSettings.model_fields else section["options"]
                keys[axis] = value
            name = "_".join(
                axis.rpartition(".")[2] + _as_name(value) for axis, value in chosen.items()
            )
            if name in runs:
                raise ValueError(
                    f"`sweep:` has two runs with the name {name}; remove a value that is listed "
                    "twice, or train one of them with `run:`"
                )
            runs[name] = TrainSettings.model_validate(section)
        return runs

    def of_run(self, run: str | None) -> "Settings":
        """Return the config of one run of a sweep; without a sweep, this config."""
        return self.model_copy(update={"train": self.runs[run]}) if run and self.sweep else self

    def only(self, *names: str) -> dict[str, Any]:
        """Return the part of the config that a job uses and stores; `Settings.part` reads it.

        Args:
            names: The sections that the job uses, or single keys of them: `videos.subset`.

        Returns:
            The part by these names: the value of a key, and those values of a section that differ
            from the first defaults (`Section.stored`), so that a new key makes no job run again.
        """
        values = {name: attrgetter(name)(self) for name in names}
        return {
            name: value.stored() if isinstance(value, Section) else value
            for name, value in values.items()
        }

    @classmethod
    def part(cls, stored: Mapping[str, Any]) -> "Settings":
        """Make the config of a job from what `only` returned.

        To read any other key of it raises an AttributeError, since its default may be wrong.
        """
        config: dict[str, Any] = {}
        for name, value in stored.items():
            section, _, key_name = name.partition(".")
            config[section] = config.get(section, {}) | {key_name: value} if key_name else value
        part = cls.model_validate(config, context="part")
        part.forget(cls.model_fields.keys() - part.model_fields_set)
        for name, section in part:
            if isinstance(section, Section):
                fields = type(section).model_fields
                # A job stores a whole section without the keys that name input files.
                section.forget(
                    {
                        field_name
                        for field_name in fields
                        if extras_of(fields[field_name])["of_inputs"]
                    }
                    if name in stored
                    else fields.keys() - section.model_fields_set
                )
        return part

    @model_validator(mode="after")
    def _agrees(self, info: ValidationInfo) -> Self:
        """Refuse keys that contradict each other."""
        if info.context == "part":
            return self  # The whole config was checked before a part of it was stored.
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
        if self.annotations.download and self.annotations.format != "official":
            yield "`annotations: download: true` goes with `format: official` only"
        heads, reduce = self.train.heads, self.export.reduce
        if heads and not finished_models and heads not in HEADS_FOR.get(reduce, (heads,)):
            yield (
                f"`export: reduce: {reduce}` folds heads that `heads: {heads}` does not have; "
                f"expected `heads: {HEADS_FOR[reduce][-1]}`, or another `reduce:`"
            )
        if self.predict.model and self.predict.models:
            yield "`predict: model:` and `models:` are both set; expected one"
        csvs = [path for path in (self.annotations.train, self.annotations.val) if path]
        if len({os.path.normpath(path) for path in csvs}) < len(csvs):
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
    run_names = sorted(path.name for path in (Path(folder) / RUNS).glob("*"))
    finished = [
        run
        for run in (None, *run_names)
        if all((Path(folder) / home_of(run) / name).is_file() for name in FILES_OF_FINISHED_RUN)
    ]
    # Whoever trained only named runs does not want the default run trained for the comparison.
    only_named_runs = list(own) == [None] and finished and None not in finished
    to_make = [] if only_named_runs else list(own)
    return to_make, [run for run in finished if run not in to_make]
