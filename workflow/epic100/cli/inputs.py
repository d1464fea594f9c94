"""Read all inputs of a run, and report what is missing and what is wrong.

`epic100 check` prints the report, and every run begins with it. All files are read, even if one is
wrong. The lines about their contents are stored until one of the files changes.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from epic100.base.atomic import write_text
from epic100.base.disk import digest, read_json
from epic100.base.errors import nearest_file, some
from epic100.base.shipped import ROOT, existing_path, own_version
from epic100.cli.input_videos import MISSING, NOTE, OK, WRONG, Archive, Line, archive_lines
from epic100.data.downloads import Pinned, read_pins
from epic100.data.official_lists import CLASS_LISTS, LISTS, find_lists
from epic100.settings.config import Settings

# This file has the lines about the contents, and a digest of what they depend on.
STORED_LINES = ".snakemake/epic100-inputs.json"


@dataclass(frozen=True)
class InputFiles:
    """The paths of the files that a config names.

    Attributes:
        csvs: The annotations by split.
        lists: The official lists by the keys of `LISTS` and `CLASS_LISTS`.
        sheet: The video sheet.
        models: Finished models to predict with.
        recipes: MMEngine configs of trainings.
        made: Whether the run makes or fetches the CSVs and lists that are missing.
        pins: The checksums of the official files by split or key; none if the config is for data of
            the user's own.
    """

    csvs: Mapping[str, str]
    lists: Mapping[str, str]
    sheet: str
    models: Sequence[str]
    recipes: Sequence[str]
    made: bool
    pins: Mapping[str, Pinned]

    @classmethod
    def of(cls, config: Settings, folder: str | os.PathLike = ROOT) -> "InputFiles":
        """List the files that a config names; `folder` has those that ship with the workflow."""
        annotations = config.annotations
        made = bool(config.minikitchen or annotations.download)
        splits = {split: getattr(annotations, split) for split in ("train", "val", "test")}
        models = [*config.predict.models, *filter(None, [config.predict.model])]
        trainings = [config.train, *config.runs.values()] if config.trains else []
        return cls(
            csvs={split: path for split, path in splits.items() if path},
            lists=find_lists(
                annotations.val,
                config.evaluate.model_dump(),
                to_be_made=made,
                lists={**LISTS, **CLASS_LISTS},
            ),
            sheet=existing_path(config.videos.sheet, folder),
            models=models,
            recipes=[existing_path(train.config, folder) for train in trainings],
            made=made,
            pins={} if config.minikitchen else read_pins(existing_path(annotations.sheet, folder)),
        )

    @cached_property
    def tables(self) -> dict[str, str]:
        """The paths of the CSVs and lists that exist, by split or key."""
        paths = {**self.csvs, **self.lists}
        return {key: path for key, path in paths.items() if os.path.isfile(path)}

    @cached_property
    def digests(self) -> dict[str, str]:
        """The digest of each existing CSV and list, of the same type as the official checksum.

        The official CSVs are hashed in a hundredth of a second, so no digest is stored: it would be
        found by the date of a file, which may be anything.
        """
        digests = {}
        for key, path in self.tables.items():
            algorithm = self.pins[key].checksum.algorithm if key in self.pins else "sha256"
            digests[key] = str(digest(path, algorithm))
        return digests

    def digests_of(self, *keys: str) -> dict[str, str]:
        """Return the digests of files that a job reads, by key; the one of the sheet is `sheet`.

        As a parameter, they make Snakemake run the job again after a change, whatever the date of
        the file.
        """
        known = {}
        if self.made:
            # A file that the run will fetch has its official digest before it is there.
            known = {key: str(pin.checksum) for key, pin in self.pins.items()}
        known |= self.digests
        if "sheet" in keys:
            known["sheet"] = str(digest(self.sheet, "sha256"))
        return {key: known.get(key, "") for key in keys}


def read_inputs(config: Settings, files: InputFiles, archive: Archive) -> list[Line]:
    """Read and check every input of a run.

    Args:
        config: The config of the run.
        files: The files that it names.
        archive: Its sheet and videos.

    Returns:
        One or more lines about each input.
    """
    return [*_absent(files), *_contents(files, config, archive), *archive_lines(config, archive)]


def _absent(files: InputFiles) -> Iterator[Line]:
    """Report files that are missing, folders in place of files, and a `results` that is none."""
    for key, path in {**files.csvs, **files.lists}.items():
        section = "annotations" if key in files.csvs else "evaluate"
        if os.path.isdir(path):
            yield Line(
                WRONG, section, f"{path}: is a folder; expected the file of `{section}: {key}:`"
            )
        # If the run makes or fetches the files itself (`made`), a missing one is no error.
        elif not (files.made or os.path.exists(path)):
            hint = ", or set `annotations: {download: true}`" if key in files.pins else ""
            yield Line(
                MISSING,
                section,
                f"{path}: no such file; expected that of `{section}: {key}:`; put it there{hint}",
            )
    if os.path.lexists("results") and not os.path.isdir("results"):
        yield Line(
            WRONG,
            "results",
            "results: is a file, or a link to a folder that is gone; expected a folder: remove it, "
            "or make the folder again that it links to",
        )
    for path in files.models:
        if not os.path.isfile(path):
            defect = "is a folder" if os.path.isdir(path) else "no such file"
            yield Line(
                WRONG,
                "predict",
                f"{path}: {defect}; expected a finished model, such as results/model.pth, from the "
                "working folder on; correct `predict:`",
            )
    for path in dict.fromkeys(files.recipes):
        if not (os.path.isfile(path) and path.endswith(".py")):
            error = "is no MMEngine config" if os.path.exists(path) else "no such MMEngine config"
            yield Line(
                WRONG,
                "train",
                f"{path}: {error}; expected the .py file of `train: config:`, such as "
                f"config/x3d_demo.py{nearest_file(path, ROOT)}",
            )


def _contents(files: InputFiles, config: Settings, archive: Archive) -> list[Line]:
    """Report on the contents of the files; the lines of an earlier call are kept and used again."""
    models = [path for path in files.models if os.path.isfile(path)]
    if not (files.tables or models):
        return []
    if importlib.util.find_spec("pandas") is None:
        return [Line(NOTE, "annotations", "are read by the jobs, whose packages are not here")]

    # The lines depend on these values, of which equal ones always have the same `repr`.
    states_of_models = [(os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in models]
    of_config = (config.annotation_arguments, config.export.reduce)
    of_sheet = (archive.videos, archive.chosen)
    decisive = (own_version(), files, files.digests, states_of_models, of_config, of_sheet)
    fingerprint = hashlib.sha256(repr(decisive).encode()).hexdigest()

    # Without stored lines, or with a damaged file of them, the inputs are read.
    with contextlib.suppress(ValueError, OSError, TypeError, KeyError):
        stored = read_json(STORED_LINES)
        if stored["question"] == fingerprint:
            return [Line(*texts) for texts in stored["lines"]]

    # These modules import pandas, which takes half a second. Most calls have returned above.
    from epic100.cli.input_tables import model_lines, table_lines

    lines = [
        *table_lines(files.tables, config, archive),
        *_official_lines(files),
        *model_lines(models, config),
    ]
    write_text(STORED_LINES, json.dumps({"question": fingerprint, "lines": lines}))
    return lines


def _official_lines(files: InputFiles) -> Iterator[Line]:
    """Report files that are the official ones, and note if others of the config are not.

    Such files may be cut or edited. If no file is official, nothing is reported: the annotations
    are the user's own.
    """
    pinned = [key for key in files.digests if key in files.pins]
    edited = [key for key in pinned if files.digests[key] != str(files.pins[key].checksum)]
    if pinned and not edited:
        yield Line(OK, "annotations", "are the official files, by their checksums")
    elif len(edited) < len(pinned):
        yield Line(
            NOTE,
            "annotations",
            "not the official files, by their checksums, as others are: "
            f"{some([files.tables[key] for key in edited])}; "
            "expected if you made them, else remove them and fetch them again",
        )
