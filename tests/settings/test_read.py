"""A config becomes settings, or one list of all that is wrong with it."""

import re
from operator import attrgetter

import pandas as pd
import pytest
import yaml

from epic100.base.errors import EpicError
from epic100.base.shipped import ROOT
from epic100.settings.config import (
    FILES_OF_FINISHED_RUN,
    Settings,
    home_of,
    layered_settings,
    read_settings,
    runs_to_compare,
)
from epic100.settings.data import ScanLimits
from epic100.settings.section import key
from epic100.settings.training import TrainSettings
from tools import settings_pages

LR = "optim_wrapper.optimizer.lr"


def with_key(dotted, value):
    """Make a config of one key: `train.epochs` and 3 give {"train": {"epochs": 3}}."""
    for name in reversed(dotted.split(".")):
        value = {name: value}
    return value


def errors_of(config):
    """The lines of the error that a config causes."""
    with pytest.raises(EpicError) as caught:
        read_settings(config)
    return str(caught.value).splitlines()


def test_reading_does_not_change_the_given_config():
    config = {"videos": {"root": "/a", "subset": "true"}}
    before = yaml.safe_dump(config)
    assert read_settings(config).videos.subset
    assert yaml.safe_dump(config) == before


@pytest.mark.parametrize(
    "key, given, value",
    [
        ("train.ema", "1e-3", 0.001),
        ("train.epochs", "7", 7),
        ("train.options", {LR: "1e-2", "a": ["1", "true"]}, {LR: 0.01, "a": [1, True]}),
        ("train.dropout", "0.1", 0.1),
        ("train.scale_lr", "false", False),
        ("train.load_from", "null", None),
        ("train.precision", "null", None),
        ("predict.crops", "3", 3),
        ("predict.crops", "whole", "whole"),
        ("videos.proxy", "null", None),
        ("run", "2026-11-30", "2026-11-30"),
        ("run", "1e3", "1e3"),
        ("videos.root", "$SCRATCH/videos", "/big/videos"),
        ("predict.model", "~/m.pth", "/home/me/m.pth"),
    ],
)
def test_text_becomes_a_key_s_number_or_path(key, given, value, monkeypatch):
    monkeypatch.setenv("SCRATCH", "/big")
    monkeypatch.setenv("HOME", "/home/me")
    settings = read_settings(with_key(key, given))
    assert attrgetter(key)(settings) == value


def test_a_further_config_replaces_single_keys(tmp_path):
    (tmp_path / "one.yaml").write_text("export: {sls: {pt: 0}}\n")
    (tmp_path / "two.yaml").write_text("export: {sls: {td: 4}}\n")
    settings = layered_settings([tmp_path / "one.yaml", tmp_path / "two.yaml"])
    # The default of `tl` is 3.
    assert settings.export.sls.model_dump() == {"pt": 0, "tl": 3, "td": 4}


@pytest.mark.parametrize("name", ["config", "demo", "hard", "trainval"])
def test_the_shipped_configs_are_valid(name):
    assert layered_settings([ROOT / f"config/{name}.yaml"])


@pytest.mark.parametrize(
    "content, words",
    [
        ("caf\xe9: 1".encode("latin-1"), "its text is not UTF-8; save it as UTF-8"),
        (None, "no such config file"),
        (b"a: [", "not a readable config"),
        (b"a:\n\tb: 1", "indent with spaces"),
        (b"# nothing yet", "no key in it; expected a config.*or remove the file"),
        (b"[1]", "is a list; expected a config.*key by key"),
    ],
)
def test_a_file_without_config_is_refused(tmp_path, content, words):
    path = tmp_path / "over.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EpicError, match=rf"over\.yaml: .*{words}"):
        layered_settings([path], tmp_path)


@pytest.mark.parametrize(
    "config, words",
    [
        ({"vidoes": {}}, "unknown key 'vidoes'; did you mean videos?"),
        (with_key("clean.polcy", "video"), "unknown key 'clean.polcy'; did you mean clean.policy?"),
        (with_key("export.sls.x", 1), "unknown key 'export.sls.x' (known here: pt, tl, td)"),
        ({"train.epochs": 3}, "key 'train.epochs': a file has no dots; expected train: {epochs:"),
        (
            {"train": {"validate.every": 3}},
            "'validate.every': a file has no dots; expected train: {validate: {every: ...}}",
        ),
        (with_key("train.lr", 0.1), "'train.lr'; a key of the MMEngine config goes into `options`"),
        ({"colour": 1}, "unknown key 'colour' (known here: annotations, classes,"),
        ({"clips": {"height": 144}}, "key 'clips' is gone: FFmpeg cuts segments into files"),
        (
            {"probe": {"lr": [0.001]}},
            "key 'probe' is gone: a frozen encoder is a recipe now; set `train: config: config/zoo/"
            "hf_attentive.py` and `train: encoder: FOLDER`",
        ),
        (with_key("features.grid", [8, 4]), "key 'features.grid' is gone: a frozen encoder is a"),
        ({"epochs": 3}, "unknown key 'epochs'; did you mean train.epochs?"),
        (with_key("annotations.format", "lab_list"), "lists are made from the official CSVs"),
        (with_key("scan.seconds_per_second", 3), "is gone: raise `scan: min_seconds:`"),
        (with_key("train.checkpoint", {}), "is gone: set `train: options:`, default_hooks."),
        (with_key("train.max_broken", 1), "is gone: set `train: options:`, train_dataloader."),
        (with_key("videos.proxy.b_frames", 0), "is gone: copies have five B-frames in a row"),
        (
            with_key("evaluate.tail_verbs", "a.csv"),
            "is gone: put the list, or a link to it",
        ),
        (with_key("sweep.train.workers", [1]), "sweep.train: unknown key 'workers'"),
        (with_key("sweep.predict", {}), "unknown key 'sweep.predict'"),
    ],
)
def test_an_unknown_key_is_one_line(config, words):
    (line,) = errors_of(config)
    assert line.startswith("config: ") and words in line


@pytest.mark.parametrize(
    "config, words",
    [
        (with_key("clean.policy", "frame"), "clean.policy is 'frame'; expected 'segment' or 'vid"),
        (with_key("videos.root", None), "videos.root is None; expected string (files are at"),
        (
            with_key("videos.root", "$NO_SUCH/x"),
            "expected a path, but the environment has no variable NO_SUCH",
        ),
        (with_key("videos.pattern", "{id}.mkv"), "'{id}.mkv'; expected"),
        (with_key("videos.pattern", "{video}{x}"), "besides it at most {participant} in braces"),
        (with_key("train.epochs", "ten"), "train.epochs is 'ten'; expected integer (number of"),
        (with_key("train.epochs", 0), "train.epochs is 0; expected greater than or equal to 1"),
        (with_key("train.epochs", 8.0), "train.epochs is 8.0; expected integer"),
        (with_key("train.seed", True), "train.seed is True; expected integer"),
        (with_key("train.ema", "0,9"), "train.ema is '0,9'; expected number"),
        (with_key("videos.subset", "yes"), "videos.subset is 'yes'; expected boolean"),
        (with_key("export.sls.pt", 6), "export.sls.pt is 6; expected less than or equal to 5"),
        (with_key("scan.stall_seconds", 0), "scan.stall_seconds is 0; expected greater than 0"),
        (with_key("timeline.stride", 1e-4), "timeline.stride is 0.0001; expected greater than"),
        (
            with_key("timeline.window", float("nan")),
            "timeline.window is nan; expected a finite number",
        ),
        (with_key("timeline.threshold", 1.5), "threshold is 1.5; expected less than or equal to 1"),
        (with_key("browse.max_mb", -1), "browse.max_mb is -1; expected greater than or equal to"),
        (with_key("predict.crops", 2), "predict.crops is 2; expected 1, 3 or 'whole'"),
        (with_key("features.encoder", "a b"), "features.encoder is 'a b'; expected"),
        (
            with_key("browse.runs", ["a", "b", "c"]),
            "browse.runs is ['a', 'b', 'c']; expected at",
        ),
        (with_key("train.config", "mine.yaml"), "an MMEngine config, NAME.py; YAML: --configfile"),
        (with_key("train.load_from_sha256", "12"), "is '12'; expected 64 hexadecimal digits"),
        (with_key("modules.imports", ["a-b"]), "expected a module: my_lab.models"),
        (with_key("browse.splits", ["test"]), "browse.splits is ['test']; expected val among"),
        (with_key("participants.exclude", ["P01"] * 2), "expected each value once"),
        (with_key("clean", None), "clean is None; expected keys with values"),
        (with_key("annotations", "a.csv"), "annotations is 'a.csv'; expected keys with values"),
        (with_key("minikitchen.damage.P01_01", "burnt"), "minikitchen.damage.P01_01 is 'burnt'"),
        (with_key("run", "../up"), "run is '../up'; expected"),
        (with_key("run", 3), "run is 3; expected string"),
        (with_key("sweep.train.seed", 1), "sweep.train: seed is 1; expected a list of values"),
        (with_key("sweep.train.seed", []), "sweep.train: seed is []"),
        (with_key("sweep.train.seed", [1, 1]), "sweep.train: expected each value once"),
        (with_key("sweep.train.seed", [-1]), "seed is -1; expected greater than or equal to 0"),
    ],
)
def test_an_unusable_value_is_one_line(config, words):
    (line,) = errors_of(config)
    assert line.startswith("config: ") and words in line


@pytest.mark.parametrize(
    "config, words",
    [
        (
            {"videos": {"pattern": "{video}.mkv", "download": True}},
            "`videos: pattern:` is set, but `download: true`",
        ),
        ({"minikitchen": {}, "videos": {"download": True}}, "`minikitchen` makes its own files"),
        (
            {"predict": {"model": "a", "models": ["b"]}},
            "`predict: model:` and `models:` are both set",
        ),
        ({"run": "default"}, "`run: default` is the run without a name"),
        ({"train": {"heads": "pair"}, "export": {"reduce": "heads"}}, "expected `heads: both`, or"),
        ({"train": {"heads": "verb_noun"}, "export": {"reduce": "joint"}}, "reduce: joint` folds"),
        ({"annotations": {"train": "a.csv", "val": "./a.csv"}}, "are the same file"),
        ({"run": "a", "sweep": {"train": {"seed": [0]}}}, "`run:` and `sweep:` are both set"),
        ({"predict": {"model": "m"}, "sweep": {"train": {"seed": [0]}}}, "names finished ones"),
        ({"features": {"encoder": "hf"}}, "`features: encoder: hf` goes with `path:`, a folder"),
        ({"train": {"from_scratch": True, "load_from": "a.pth"}}, "expected one of the two"),
        ({"train": {"device": "cuda", "gpus": 0}}, "gpus is 0 and device is cuda"),
        ({"sweep": {"train": {"options": {"a.x": ["b c", "b/c"]}}}}, "two runs with the name xb-c"),
    ],
)
def test_keys_that_contradict_each_other_are_one_line(config, words):
    (line,) = errors_of(config)
    assert line.startswith("config: ") and words in line


@pytest.mark.parametrize(
    "config, words",
    [
        pytest.param({}, [], id="defaults"),
        pytest.param(
            with_key("export.sls.td", 4), ["td is 4, and train.split is train; expe"], id="td"
        ),
        pytest.param(with_key("train.split", "trainval"), ["expected 4"], id="split"),
        pytest.param(
            with_key("classes.verbs", 970),
            ["classes.verbs is 970, and classes.nouns 300"],
            id="classes",
        ),
        pytest.param(
            {"classes": {"verbs": 4}, "annotations": {"val": "val.csv"}}, [], id="own classes"
        ),
    ],
)
def test_a_doubtful_value_is_a_doubt(config, words):
    doubts = read_settings(config).doubts
    assert len(doubts) == len(words)
    assert all(word in doubt for word, doubt in zip(words, doubts, strict=True))


def test_all_mistakes_are_reported_at_once():
    config = {"clean": {"policy": 3}, "videos": {"rot": "x"}, "train": {"epochs": False}}
    assert len(errors_of(config)) == 3


def test_a_repeated_key_is_refused_with_line(tmp_path):
    path = tmp_path / "over.yaml"
    path.write_text("train: {epochs: 3}\nclean: {}\ntrain: {epochs: 4}\n")
    with pytest.raises(EpicError, match="over.yaml: .*line 3: key 'train' is there twice"):
        read_settings({}, [path])


def test_a_job_stores_changed_values_without_inputs():
    train = {"epochs": 3, "config": "a.py", "load_from": "b.pth", "validate": {"every": 2}}
    settings = read_settings({"train": train, "videos": {"subset": True, "proxy": {}}})
    stored = {"train": {"epochs": 3, "validate": {"every": 2}}, "videos": {"subset": True}}
    stored["videos"]["proxy"] = {}
    assert settings.stored() == stored


def test_a_job_makes_sections_from_stored_values():
    settings = TrainSettings(**{"epochs": 3, "validate": {"every": 2}})
    assert TrainSettings(**settings.stored()) == settings


def test_a_later_version_s_key_is_not_stored():
    class Later(TrainSettings):
        added: int = key(3, "A key of a later version.")

    assert Later(epochs=2).stored() == TrainSettings(epochs=2).stored() == {"epochs": 2}


@pytest.mark.parametrize("run, folder", [(None, "results"), ("lr.3-b", "results/runs/lr.3-b")])
def test_a_named_run_has_its_own_folder(run, folder):
    assert read_settings({"run": run}).home == folder


def test_a_longer_video_may_be_scanned_longer():
    assert ScanLimits(min_seconds=300).total(seconds=100) == 500


@pytest.mark.parametrize("device, gpus", [("auto", 8), ("cpu", 0)])
def test_a_training_requests_the_gpus_of_all_nodes(device, gpus):
    assert TrainSettings(nodes=2, gpus=4, device=device).gpus_to_ask == gpus


@pytest.mark.parametrize(
    "nodes, resources",
    [(1, {}), (2, {"mpi": "yes", "nodes": 2, "tasks": 2, "tasks_per_gpu": 0})],
)
def test_several_nodes_have_a_task_each(nodes, resources):
    assert TrainSettings(nodes=nodes).resources_of_nodes == resources


def test_each_combination_of_a_sweep_is_a_run():
    base = {"epochs": 7, "options": {"model.x": 1}}
    sweep = {"train": {"seed": [0, 1], "options": {LR: [0.1, "1e-05", 0.5]}}}
    settings = read_settings({"train": base, "sweep": sweep})
    assert settings.home == "results/runs/{run}"
    names = [f"lr{lr}_seed{seed}" for lr in ("0.1", "1e-05", "0.5") for seed in (0, 1)]
    assert list(settings.runs) == names
    one = settings.of_run("lr1e-05_seed1").train
    assert one.epochs == 7 and one.seed == 1 and one.options == {"model.x": 1, LR: 1e-05}


@pytest.mark.parametrize(
    "grid, names",
    [
        ({"config": ["config/a.py", "~/b.py"]}, ["configa", "configb"]),
        (
            {"options": {"model.scales": [[1, 2], "a/../b"]}, "ema": [None]},
            ["emanull_scales-1-2-", "emanull_scalesa-..-b"],
        ),
    ],
)
def test_a_sweep_s_run_names_a_folder(grid, names):
    assert list(read_settings({"sweep": {"train": grid}}).runs) == names


@pytest.mark.parametrize(
    "finished, of_config, to_make, to_show",
    [
        ([], [None], [None], []),
        (["b"], [None], [], ["b"]),
        (["b"], ["a"], ["a"], ["b"]),
        (["b", None], [None], [None], ["b"]),
        (["b", None], ["b"], ["b"], [None]),
    ],
)
def test_the_default_run_is_compared_if_made(finished, of_config, to_make, to_show, tmp_path):
    for run in finished:
        for name in FILES_OF_FINISHED_RUN:
            file = tmp_path / home_of(run) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    assert runs_to_compare(of_config, tmp_path) == (to_make, to_show)


def test_make_keys_renewed_readme_and_schema():
    text = settings_pages.README.read_text(encoding="utf-8")
    assert settings_pages.readme(text) == text, "make keys"
    assert settings_pages.SCHEMA.read_text(encoding="utf-8") == settings_pages.schema(), "make keys"


def values(config):
    """The values of a config by the dotted names of their keys."""
    return pd.json_normalize(config).to_dict("records")[0]


def test_the_shipped_config_shows_defaults_in_comments():
    text = (ROOT / "config/config.yaml").read_text(encoding="utf-8")
    # The test CSV, whose default is null, is the one key that is set.
    (stated,) = values(yaml.safe_load(text)).items()
    shown = values(yaml.safe_load(re.sub(r"(?m)^( *)# ( *\w+:( |$))", r"\1\2", text)))
    defaults = {name: attrgetter(name)(Settings()) for name in shown}
    assert shown.items() - defaults.items() == {stated} and len(shown) > 15


ALIASES = "\n".join(
    ["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 25))]
)


@pytest.mark.parametrize(
    "text, words",
    [
        (ALIASES, "its aliases make over 100000 values; expected a config"),
        (f"train: {'[' * 3000}{']' * 3000}", "too deep for a config; expected YAML, key by key"),
    ],
    ids=["aliases of aliases", "3,000 brackets"],
)
def test_an_endless_config_is_one_line(tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(EpicError, match=f"^{path}: {words}$"):
        layered_settings([str(path)])


def test_a_device_as_config_is_one_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.symlink_to("/dev/zero")
    with pytest.raises(EpicError, match="mine.yaml: a pipe or a device; expected a file"):
        layered_settings([str(path)])
