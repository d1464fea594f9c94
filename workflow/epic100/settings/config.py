"""The whole config: all sections, the runs of a sweep, and what contradicts each other."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, ValidationInfo, field_validator, model_validator

from epic100.base.runs import DEFAULT, RUNS, home_of
from epic100.settings.keys import (
    Annotations,
    BrowseSettings,
    Classes,
    Cleaning,
    ClipSettings,
    ExportSettings,
    FeatureSettings,
    Minikitchen,
    Modules,
    OfficialLists,
    Participants,
    PredictSettings,
    ProbeSettings,
    RunName,
    ScanSettings,
    TimelineSettings,
    TrainSettings,
    Videos,
    unique,
)
from epic100.settings.mistakes import known_and_meant, words_of
from epic100.settings.section import Section, about, key, number_of


class Sweep(Section):
    """Values to try: a run in results/runs for each combination of them (below)."""

    train: dict[str, Any] = key(
        {},
        "lists of values of keys of `train` that change what is learned; of `options` too, a list "
        "for each key",
    )

    @field_validator("train", mode="after")
    @classmethod
    def _lists(cls, grid: dict[str, Any]) -> dict[str, Any]:
        known = [
            name for name, field in TrainSettings.model_fields.items() if about(field)["sweep"]
        ]
        checked: dict[str, Any] = {}
        for name, values in grid.items():
            if name not in known:
                raise ValueError(f"unknown key {name!r}{known_and_meant(name, known)}")
            options = name == "options" and isinstance(values, dict)
            for listed in values.values() if options else [values]:
                if not isinstance(listed, list) or not listed:
                    raise ValueError(f"{name} is {listed!r}; expected a list of values")
                unique(listed)
            if options:
                checked[name] = {option: [*map(number_of, values[option])] for option in values}
            else:
                checked[name] = [_value_of_train(name, value) for value in values]
        return checked

    def axes(self) -> list[tuple[str, str, list[Any]]]:
        """Short name, name and values of each key, by the short name."""
        options = self.train.get("options", {})
        axes = [(name, name, values) for name, values in self.train.items() if name != "options"]
        axes += [(name.rpartition(".")[2], name, values) for name, values in options.items()]
        return sorted(axes, key=lambda axis: axis[:2])


def _value_of_train(name: str, value: Any) -> Any:
    try:
        return getattr(TrainSettings.model_validate({name: value}), name)
    except ValidationError as error:
        raise ValueError(words_of(error.errors()[0], TrainSettings)) from error


class Settings(Section):
    """The config of the EPIC-KITCHENS-100 workflow. Relative paths are relative to the working
    directory (`snakemake --directory`); a file that is missing there is looked for in the
    workflow's own folder."""

    annotations: Annotations = key(Annotations(), "official CSVs")
    classes: Classes = key(Classes(), "number of classes")
    videos: Videos = key(Videos(), "which videos there are")
    participants: Participants = key(Participants(), "who takes part")
    scan: ScanSettings = key(ScanSettings(), "how videos are scanned")
    clean: Cleaning = key(Cleaning(), "what to do with damage")
    train: TrainSettings = key(TrainSettings(), "training")
    modules: Modules = key(Modules(), "models of your own")
    predict: PredictSettings = key(PredictSettings(), "prediction")
    clips: ClipSettings = key(ClipSettings(), "a file for each segment")
    timeline: TimelineSettings = key(TimelineSettings(), "whole videos")
    features: FeatureSettings = key(FeatureSettings(), "features of whole videos")
    browse: BrowseSettings = key(BrowseSettings(), "the page to look at")
    probe: ProbeSettings | None = key(
        None, "a model that is a probe on features (docs/features.md); {}: these defaults"
    )
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
    def reading(self) -> dict[str, Any]:
        """How annotations are read: the last arguments of `load_annotations`."""
        return {
            "classes": self.classes.model_dump(),
            "format": self.annotations.format,
            "subset": self.videos.subset,
        }

    @property
    def home(self) -> str:
        """The folder of the trained parts; with a sweep it has `{run}` in it."""
        return f"{RUNS}/{{run}}" if self.sweep else home_of(self.run)

    @cached_property
    def runs(self) -> dict[str, TrainSettings]:
        """The training of each run of a sweep, by the run's name; empty without `sweep:`.

        There is a run for every combination of the values. Its name has the last part of each key
        and its value, in alphabetical order: `lr0.01_seed0`.

        Raises:
            ValueError: Two runs have the same name, or the settings of one contradict each other.
        """
        axes = self.sweep.axes() if self.sweep else []
        runs: dict[str, TrainSettings] = {}
        for values in itertools.product(*(values for _, _, values in axes)) if axes else ():
            section = self.train.model_dump(by_alias=True)
            options = section["options"]
            for (_, name, _), value in zip(axes, values, strict=True):
                (section if name in TrainSettings.model_fields else options)[name] = value
            name = "_".join(
                short + _as_name(value) for (short, _, _), value in zip(axes, values, strict=True)
            )
            if name in runs:
                raise ValueError(
                    f"`sweep:` has two runs with the name {name}; remove a value that is listed "
                    "twice, or train one of them with `run:`"
                )
            runs[name] = TrainSettings.model_validate(section)
        return runs

    def of_run(self, run: str | None) -> "Settings":
        """The config of one run of a sweep; without a sweep the same config."""
        return self.model_copy(update={"train": self.runs[run]}) if run and self.sweep else self

    def only(self, *names: str) -> dict[str, Any]:
        """What a job stores of the config.

        Args:
            names: The keys and sections that the job uses, dotted.

        Returns:
            Those that are not as when they were introduced (`stored`), for `Settings.part`.
        """
        stored, kept = self.stored(), dict[str, Any]()
        for name in names:
            attrgetter(name)(self)  # a name that is not there is an error
            value, target, (*above, last) = stored, kept, name.split(".")
            for part in above:
                value = value.get(part, {})
            if last not in value:
                continue
            for part in above:
                target = target.setdefault(part, {})
            target[last] = value[last]
        return kept

    @classmethod
    def part(cls, stored: Mapping[str, Any]) -> "Settings":
        """The config of a job: what `only` has kept, and defaults."""
        return cls.model_validate(stored, context="part")

    @model_validator(mode="after")
    def _agrees(self, info: ValidationInfo) -> Self:
        if info.context == "part":
            return self
        if found := list(self._contradictions()):
            raise ValueError("\n".join(found))
        assert self.runs is not None  # raises for a combination that cannot be
        return self

    def _contradictions(self) -> Iterator[str]:
        made_elsewhere = self.predict.model or self.predict.models
        if self.minikitchen and (self.videos.download or self.annotations.download):
            yield "`minikitchen` makes its own files; `download: true` is of no use"
        if self.annotations.download and self.annotations.format != "official":
            yield "`annotations: download: true` goes with `format: official` only"
        if self.predict.model and self.predict.models:
            yield "`predict: model:` and `models:` are both set; expected one"
        if self.run == DEFAULT:
            yield "`run: default` is the run without a name; leave `run:` out"
        if self.run and self.sweep:
            yield "`run:` and `sweep:` are both set; expected one of the two"
        if self.sweep and made_elsewhere:
            yield "a `sweep:` trains its models, but `predict:` names finished ones; remove one"
        if self.probe and self.predict.models:
            yield "`probe:` and `predict: models:` are both set; expected one"
        if self.probe and (not self.run or self.run == self.probe.of):
            yield (
                f"`probe:` needs a run of its own, since the model of {home_of(self.probe.of)} "
                "gives the features; set `run:` to another name, as config/probe.yaml does"
            )


def _as_name(value: Any) -> str:
    """A value as part of a folder's name; of an MMEngine config, its name."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = Path(text).stem if text.endswith(".py") else text
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text)
