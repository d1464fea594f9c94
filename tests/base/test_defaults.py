"""The schema owns the defaults; what repeats them may not drift from it."""

import fnmatch
import functools
import inspect
import re
from dataclasses import MISSING, fields, is_dataclass

import pytest
import yaml

from epic100.base.config import ROOT, SCHEMA, layered_config
from epic100.browse.settings import BrowseSettings
from epic100.download.fetch import FetchSettings
from epic100.features.probe_settings import ProbeSettings
from epic100.features.settings import FeatureSettings
from epic100.prediction.predict import PredictSettings
from epic100.proxy import ClipSettings, ProxySettings
from epic100.timeline.settings import TimelineSettings
from epic100.training.checkpoint_hook import SafeCheckpointHook
from epic100.training.settings import CheckpointSettings, TrainSettings, ValidateSettings
from epic100.video.decoder_process import ScanLimits

TABLE_ROW = re.compile(r"\| (`[\w.]+`(?:, `\.\w+`)*) \| ([^|]+) \| [^|]+ \|")
OTHERS = {"go_on", "config", "checkpoint", "validate"}  # no key, without a default, or a section

WHOLE = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
WEIGHTS = {"load_from", "load_from_sha256", "from_scratch"}  # the rules make a path of them


def section(dotted: str) -> dict:
    """The schema of a section, or of a key."""
    part = WHOLE
    for name in dotted.split("."):
        part = part["properties"][name]
    return part


def defaults_of(settings) -> dict:
    """Defaults by field of a dataclass, or by argument of a function."""
    if not is_dataclass(settings):
        parameters = inspect.signature(settings).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(settings)
    }


@pytest.mark.parametrize(
    ("name", "settings", "elsewhere"),
    [
        ("download", FetchSettings, set()),
        ("videos.proxy", ProxySettings, {"root"}),
        ("clips", ClipSettings, set()),
        ("scan", ScanLimits, {"quick"}),
        ("train", TrainSettings, {"config", "checkpoint", "validate", *WEIGHTS}),
        ("train.checkpoint", CheckpointSettings, set()),
        ("train.checkpoint", SafeCheckpointHook, set()),  # in a config of one's own
        ("train.validate", ValidateSettings, set()),
        ("predict", PredictSettings, {"model", "models"}),
        ("timeline", TimelineSettings, set()),
        ("features", FeatureSettings, set()),
        ("browse", BrowseSettings, set()),
        ("probe", ProbeSettings, {"of"}),
    ],
)
def test_defaults_in_code_are_the_schema_s(name, settings, elsewhere):
    keys = section(name)["properties"]
    wanted = {key: part["default"] for key, part in keys.items() if key not in elsewhere}
    found = {k: v for k, v in defaults_of(settings).items() if k not in OTHERS | elsewhere}
    assert found == wanted


as_it_ships = functools.cache(layered_config)


@functools.cache
def readme_rows() -> dict[str, str]:
    """Default as written, by dotted key, of the table in config/README.md."""
    page = (ROOT / "config/README.md").read_text(encoding="utf-8")
    table = page.partition("| key | default | meaning |\n")[2].partition("\n\n")[0]
    rows = {}
    for cells in TABLE_ROW.findall(table):
        first, *others = re.findall(r"`([\w.]+)`", cells[0])
        keys = [first, *(first.rpartition(".")[0] + other for other in others)]
        values = [value.strip("`") for value in cells[1].strip().split(", ")]
        if len(values) == 1:  # of all of them
            values *= len(keys)
        rows |= zip(keys, values, strict=True)
    return rows


def schema_keys(part: dict, prefix: str = "") -> list[str]:
    """Dotted keys of all settings; a section that may be null is a setting too."""
    keys = []
    for name, below in part["properties"].items():
        inner = schema_keys(below, f"{prefix}{name}.") if "properties" in below else []
        if not inner or below.get("default", {}) is None:
            keys.append(prefix + name)
        keys += inner
    return keys


def test_the_readme_s_table_names_every_key():
    assert sorted(readme_rows()) == sorted(schema_keys(WHOLE))


@pytest.mark.parametrize("key", readme_rows())
def test_the_readme_s_default_is_that_of_the_config_as_it_ships(key):
    written, found = readme_rows()[key], as_it_ships(())
    if written == "absent":
        assert key.split(".")[0] not in found
        return
    for name in key.split("."):
        if found is None or name not in found:  # a section that is off, or not there
            found = section(key)["default"]
            break
        found = found[name]
    assert fnmatch.fnmatch(found, written) if "*" in written else yaml.safe_load(written) == found
