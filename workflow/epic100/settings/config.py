"""The whole config: all sections, the runs of a sweep, and what contradicts each other."""

import copy
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote

import yaml
from pydantic import ValidationError, ValidationInfo, field_validator, model_validator

from epic100.base.errors import EpicError
from epic100.base.shipped import ROOT
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
from epic100.settings.section import (
    Section,
    about,
    checked,
    key,
    known_and_meant,
    lines_of_keys,
    number_of,
    words_of,
)

FILE = "config/config.yaml"
RESULTS = "results"
RUNS = f"{RESULTS}/runs"
SET = "set"  # a key of Snakemake's config that no file has
DEFAULT = "default"  # what the run in `results/` is called beside others
COMPARED = ("metrics.json", "predictions/val.pt")  # what a finished run has


def home_of(run: str | None) -> str:
    """Return the folder of a run's trained parts; None is the default run."""
    return f"{RUNS}/{run}" if run else RESULTS


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
            names: The sections that the job uses, or their keys: `section.key`.

        Returns:
            Those that are not as when they were introduced (`stored`), for `Settings.part`.
        """
        stored, kept = self.stored(), dict[str, Any]()
        for name in names:
            attrgetter(name)(self)  # a name that is not there is an error
            section, _, own = name.partition(".")
            if section in stored and (not own or own in stored[section]):
                found = {own: stored[section][own]} if own else stored[section]
                kept[section] = kept.get(section, {}) | found
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
        if self.videos.pattern and (self.videos.download or self.minikitchen):
            yield (
                "`videos: pattern:` is set, but `download: true` and the demo put their files at "
                "{root}/{participant}/{video}.MP4; remove one of the two"
            )
        if self.annotations.download and self.annotations.format != "official":
            yield "`annotations: download: true` goes with `format: official` only"
        if self.predict.model and self.predict.models:
            yield "`predict: model:` and `models:` are both set; expected one"
        csvs = [path for path in (self.annotations.train, self.annotations.val) if path]
        if len({os.path.normpath(path) for path in csvs}) < len(csvs):
            yield "`annotations: train:` and `val:` are the same file; expected one for each"
        if self.run == DEFAULT:
            yield "`run: default` is the run without a name; leave `run:` out"
        if self.run and self.sweep:
            yield "`run:` and `sweep:` are both set; expected one of the two"
        if self.sweep and made_elsewhere:
            yield "a `sweep:` trains its models, but `predict:` names finished ones; remove one"
        if (self.features.encoder == "hf") != (self.features.path is not None):
            yield "`features: encoder: hf` goes with `path:`, a folder, and no other encoder does"
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


def read_settings(config: Mapping[str, Any], files: Sequence[str | os.PathLike] = ()) -> Settings:
    """Check a config and fill in the defaults.

    Args:
        config: The config, as Snakemake has merged it. What its key `set` holds is merged over it:
            the words KEY=VALUE of a command line, as `set_words` joins them.
        files: The files that it was read from, later ones over earlier ones, for the messages.

    Raises:
        EpicError: Something is wrong. The message names every key at once.
    """
    places = {
        place: f"{file}:{line}: " for file in files for place, line in lines_of_keys(file).items()
    }
    merged = copy.deepcopy(dict(config))
    for place, value in json.loads(unquote(merged.pop(SET, "[]"))):
        places[tuple(place)] = ""
        for name in reversed(place):
            value = {name: value}
        _merge(merged, value)
    return checked(Settings, merged, "config: ", places)


def set_words(words: Sequence[str]) -> str:
    """Join words KEY=VALUE to one for Snakemake's `--config`, which takes no key with dots.

    Args:
        words: Each names its key from the top level down, with dots, and its value as YAML.

    Raises:
        EpicError: A word is not KEY=VALUE, or its value is not YAML.
    """
    given = []
    for word in words:
        place, equals, text = word.partition("=")
        if not equals or not all(place.split(".")):
            raise EpicError(f"{word}: expected KEY=VALUE, for example train.epochs=3")
        try:
            given.append((place.split("."), number_of(yaml.safe_load(text))))
            joined = json.dumps(given)
        except (yaml.YAMLError, TypeError) as error:
            raise EpicError(
                f"{word}: the value is not YAML of one line; expected KEY=VALUE"
            ) from error
    return f"{SET}={quote(joined)}"  # of JSON Snakemake would make a list of texts


def layered_settings(
    overlays: Sequence[str | os.PathLike], directory: str | os.PathLike = ""
) -> Settings:
    """Read the config that Snakemake would use in `directory` with these `--configfile`s.

    The base is `config/config.yaml` of the folder, or the shipped one if the folder has none. The
    overlays are merged into it key by key, in order.

    Args:
        overlays: Paths of further config files.
        directory: The working folder of the run.

    Raises:
        EpicError: A file is missing or is not YAML, or something in it is wrong.
    """
    own = Path(directory) / FILE
    files = [own if own.is_file() else ROOT / FILE, *map(Path, overlays)]
    config: dict[str, Any] = {}
    for path in files:
        _merge(config, read_layer(path))
    return read_settings(config, files)


def read_layer(path: str | os.PathLike) -> dict[str, Any]:
    """Read one config file without checking its keys.

    Raises:
        EpicError: The file cannot be read, or is not YAML with keys.
    """
    path = Path(path)
    try:
        layer = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        tab = "; indent with spaces, not tabs" if "'\\t'" in reason else ""
        raise EpicError(f"{path}: not a readable config ({reason}); expected YAML{tab}") from error
    if layer is None:
        raise EpicError(f"{path}: no key in it; expected a config, key by key, or remove the file")
    if not isinstance(layer, dict):
        raise EpicError(f"{path}: is a {type(layer).__name__}; expected a config, key by key")
    return layer


def _merge(config: dict[str, Any], over: dict[str, Any]) -> None:
    for name, value in over.items():
        if isinstance(value, dict) and isinstance(config.get(name), dict):
            _merge(config[name], value)
        else:
            config[name] = value


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
    there = sorted(path.name for path in (Path(folder) / RUNS).glob("*"))
    finished = [
        run
        for run in (None, *there)
        if all((Path(folder) / home_of(run) / name).is_file() for name in COMPARED)
    ]
    own = list(own)
    if own == [None] and finished and None not in finished:
        own = []
    return own, [run for run in finished if run not in own]
