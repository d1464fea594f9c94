"""A config becomes settings, or one list of all that is wrong with it."""

import os
import pickle
import re
from operator import attrgetter

import pytest
import yaml
from pydantic import ValidationError

from epic100.base.errors import EpicError
from epic100.base.shipped import ROOT
from epic100.settings import (
    Settings,
    TrainSettings,
    home_of,
    layered_settings,
    read_settings,
    runs_to_compare,
)
from epic100.settings.config import COMPARED
from epic100.settings.section import key
from epic100.training.hooks import SafeCheckpointHook
from support.checkout import python
from tools import settings_pages


def with_key(dotted, value):
    """A config with one key set, sections made on the way."""
    config = section = {}
    *parents, last = dotted.split(".")
    for name in parents:
        section = section.setdefault(name, {})
    section[last] = value
    return config


def wrong(config, files=()):
    """The lines that a config is refused with."""
    with pytest.raises(EpicError) as caught:
        read_settings(config, files)
    return str(caught.value).splitlines()


def test_what_is_set_stays_and_the_caller_s_dict_is_left_alone():
    config = {"export": {"sls": {"pt": 0}}, "minikitchen": {"damage": {"P01_01": "empty"}}}
    before = yaml.safe_dump(config)
    settings = read_settings(config)
    assert yaml.safe_dump(config) == before
    assert settings.export.sls.model_dump() == {"pt": 0, "tl": 3, "td": 3}
    with pytest.raises(ValidationError, match="frozen"):
        settings.run = "other"


def test_numbers_may_be_text_and_paths_may_have_variables(monkeypatch):
    monkeypatch.setenv("SCRATCH", "/big")
    settings = read_settings(
        {
            "train": {
                "ema": "1e-3",
                "epochs": "7",
                "options": {"optim_wrapper.optimizer.lr": "1e-2"},
            },
            "videos": {"root": "$SCRATCH/videos"},
            "predict": {"model": "~/m.pth"},
        }
    )
    assert settings.train.ema == 1e-3 and settings.train.epochs == 7
    assert settings.train.options == {"optim_wrapper.optimizer.lr": 0.01}
    assert settings.videos.root == "/big/videos"
    assert settings.predict.model == os.path.expanduser("~/m.pth")


def test_a_config_of_the_working_directory_goes_before_the_one_that_ships(tmp_path):
    (tmp_path / "config").mkdir()
    own = {"annotations": {"val": "b.csv"}, "export": {"sls": {"pt": 0}}}
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(own))
    (tmp_path / "over.yaml").write_text("export: {sls: {td: 4}}\n")
    settings = layered_settings([tmp_path / "over.yaml"], tmp_path)
    assert settings.annotations.val == "b.csv"
    assert settings.export.sls.model_dump() == {"pt": 0, "tl": 3, "td": 4}


@pytest.mark.parametrize("name", ["config", "demo", "hard", "probe", "trainval"])
def test_the_configs_that_ship_are_valid(name):
    settings = layered_settings([ROOT / f"config/{name}.yaml"])
    assert settings.annotations.val.endswith("EPIC_100_validation.csv")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"\xff", "not a readable config"),
        (None, "not a readable config"),
        (b"a:\n\tb: 1", "indent with spaces"),
        (b"# nothing yet", "no key in it; expected a config.*or remove the file"),
        (b"[1]", "is a list; expected a config.*key by key"),
    ],
)
def test_a_file_that_is_no_config_is_named(tmp_path, content, words):
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
        (with_key("clean.policy", "frame"), "clean.policy is 'frame'; expected 'segment' or 'vid"),
        (with_key("videos.root", None), "videos.root is None; expected string (files are at"),
        (
            with_key("videos.root", "$NO_SUCH/x"),
            "expected a path, but the environment has no variable NO_SUCH",
        ),
        ({"train.epochs": 3}, "key 'train.epochs': a file has no dots; expected train: {epochs:"),
        (
            {"train": {"checkpoint.seconds": 3}},
            "'train.checkpoint.seconds': a file has no dots; expected train: {checkpoint: {seconds",
        ),
        (with_key("videos.pattern", "{id}.mkv"), "'{id}.mkv'; expected"),
        (with_key("videos.pattern", "{video}{x}"), "besides it at most {participant} in braces"),
        (with_key("train.lr", 0.1), "'train.lr'; a key of the MMEngine config goes into `options`"),
        ({"colour": 1}, "unknown key 'colour' (known here: annotations, classes,"),
        (
            {"videos": {"pattern": "{video}.mkv", "download": True}},
            "`videos: pattern:` is set, but `download: true`",
        ),
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
        (with_key("sweep.train.workers", [1]), "sweep.train: unknown key 'workers'"),
        (with_key("sweep.predict", {}), "unknown key 'sweep.predict'"),
    ],
)
def test_a_wrong_key_or_value_is_one_line_that_names_it(config, words):
    (line,) = wrong(config)
    assert line.startswith("config: ") and words in line


@pytest.mark.parametrize(
    "config, words",
    [
        ({"minikitchen": {}, "videos": {"download": True}}, "`minikitchen` makes its own files"),
        ({"annotations": {"download": True, "format": "lab_list"}}, "goes with `format: official`"),
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
        (
            {"run": "a", "probe": {}, "predict": {"models": ["m"]}},
            "`probe:` and `predict: models:`",
        ),
        ({"probe": {}}, "needs a run of its own, since the model of results gives the features"),
        ({"run": "a", "probe": {"of": "a"}}, "the model of results/runs/a gives the features"),
        ({"train": {"from_scratch": True, "load_from": "a.pth"}}, "expected one of the two"),
        ({"train": {"device": "cuda", "gpus": 0}}, "gpus is 0 and device is cuda"),
        ({"sweep": {"train": {"options": {"a.x": ["b c", "b/c"]}}}}, "two runs with the name xb-c"),
    ],
)
def test_keys_that_exclude_each_other_are_refused(config, words):
    (line,) = wrong(config)
    assert words in line


def test_all_that_is_wrong_is_said_at_once_with_file_and_line(tmp_path):
    base, over = tmp_path / "base.yaml", tmp_path / "over.yaml"
    base.write_text("clean:\n  policy: 3\n")
    over.write_text("videos: {rot: x}\nclean: {}\n\n\n\ntrain:\n  epochs: no\n")
    config = {"clean": {"policy": 3}, "videos": {"rot": "x"}, "train": {"epochs": False}}
    lines = wrong(config, [base, over])
    assert len(lines) == 3
    text = "\n".join(lines)
    for words in (
        f"config: {base}:2: clean.policy is 3",
        f"config: {over}:1: unknown key 'videos.rot'; did",
        f"config: {over}:7: train.epochs is False",
    ):
        assert words in text


def test_reading_the_settings_imports_neither_torch_nor_pandas():
    code = "import sys, epic100.settings; print({'torch', 'pandas', 'mmengine'} & {*sys.modules})"
    assert python("-c", code).stdout == "set()\n"


def test_a_job_keeps_what_differs_from_the_defaults_and_no_name_of_an_input():
    settings = read_settings(
        {
            "train": {
                "epochs": 3,
                "config": "a.py",
                "load_from": "b.pth",
                "validate": {"every": 2},
            },
            "videos": {"subset": True, "proxy": {}},
            "scan": {"quick": True},
        }
    )
    kept = settings.only(
        "train", "videos.subset", "videos.proxy", "videos.accept", "scan", "classes"
    )
    assert kept == {
        "train": {"epochs": 3, "validate": {"every": 2}},
        "scan": {"quick": True},
        "classes": {},
        "videos.subset": True,
        "videos.proxy": {},
        "videos.accept": [],
    }
    again = Settings.part(kept)
    assert again.train.validation.every == 2 and again.classes.verbs == 97
    assert again.videos.proxy.height == 256 and again.videos.accept == []
    with pytest.raises(AttributeError):
        settings.only("train.epcohs")
    assert Settings.part(read_settings({"run": "a", "probe": {}}).only("probe")).probe is not None


@pytest.mark.parametrize(
    "name", ["timeline", "classes.verbs", "videos.root", "train.config", "reading"]
)
def test_a_job_has_no_default_for_what_its_rule_did_not_name(name):
    part = Settings.part(read_settings({}).only("train", "videos.subset"))
    part = pickle.loads(pickle.dumps(part))
    with pytest.raises(AttributeError, match="its rule does not name it in `CONFIG.only"):
        attrgetter(name)(part)


def test_a_new_key_is_kept_by_no_job_and_a_changed_default_by_each():
    class Later(TrainSettings):
        added: int = key(3, "A key of a later version.")
        keep_best: int = key(2, "A key whose default was 1.", at_first=1)

    assert Later().stored() == TrainSettings().stored() | {"keep_best": 2}


LR = "optim_wrapper.optimizer.lr"


def test_the_default_run_is_in_results_and_a_named_one_in_a_folder_of_its_own():
    assert read_settings({}).home == home_of(None) == "results"
    assert read_settings({"run": "lr.3-b"}).home == home_of("lr.3-b") == "results/runs/lr.3-b"
    assert read_settings({}).runs == {}


def test_a_scheduler_is_asked_for_the_gpus_of_all_nodes():
    assert TrainSettings(nodes=2, gpus=4).gpus_to_ask == 8
    assert TrainSettings(nodes=2, gpus=4, device="cpu").gpus_to_ask == 0


def test_a_sweep_has_a_run_for_each_combination_and_keeps_other_settings():
    base = {"epochs": 7, "options": {"model.x": 1}}
    sweep = {"train": {"seed": [0, 1], "options": {LR: [0.1, "1e-05", 0.5]}}}
    found = read_settings({"train": base, "sweep": sweep})
    assert found.home == "results/runs/{run}"
    names = [f"lr{lr}_seed{seed}" for lr in ("0.1", "1e-05", "0.5") for seed in (0, 1)]
    assert list(found.runs) == names
    one = found.of_run("lr1e-05_seed1").train
    assert one.epochs == 7 and one.seed == 1 and one.options == {"model.x": 1, LR: 1e-05}
    assert found.train.options == {"model.x": 1} and found.of_run(None) is found


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
def test_recipes_and_values_that_are_no_plain_names_give_plain_names(grid, names):
    assert list(read_settings({"sweep": {"train": grid}}).runs) == names


def finish(folder, run):
    for name in COMPARED:
        file = folder / home_of(run) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_the_default_run_is_compared_unless_others_alone_were_made(tmp_path):
    assert runs_to_compare([None], tmp_path) == ([None], [])
    finish(tmp_path, "b")
    assert runs_to_compare([None], tmp_path) == ([], ["b"])
    assert runs_to_compare(["a"], tmp_path) == (["a"], ["b"])
    finish(tmp_path, None)
    assert runs_to_compare([None], tmp_path) == ([None], ["b"])
    assert runs_to_compare(["b"], tmp_path) == (["b"], [None])


def test_the_readme_s_table_and_the_schema_are_those_of_the_settings():
    text = settings_pages.README.read_text(encoding="utf-8")
    assert settings_pages.readme(text) == text, "make keys"
    assert settings_pages.SCHEMA.read_text(encoding="utf-8") == settings_pages.schema(), "make keys"


def values(config, above=""):
    """(dotted name, value) of each key of a config that holds a value."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from values(value, f"{above}{name}.")
        else:
            yield above + name, value


def test_the_config_that_ships_states_no_default_and_shows_some_in_comments():
    text = (ROOT / "config/config.yaml").read_text(encoding="utf-8")
    (stated,) = values(yaml.safe_load(text))
    shown = dict(values(yaml.safe_load(re.sub(r"(?m)^( *)# ( *\w+:( |$))", r"\1\2", text))))
    defaults = {name: attrgetter(name)(Settings()) for name in shown}
    assert shown.items() - defaults.items() == {stated} and len(shown) > 15


def test_a_hook_of_a_recipe_saves_as_often_as_the_settings_say():
    saves, settings = SafeCheckpointHook().saves, TrainSettings().checkpoint
    assert (saves.seconds, saves.keep) == (settings.seconds, settings.keep)
