import copy
from pathlib import Path

import pytest
import yaml

from epic100.base.config import complete_config, layered_config
from epic100.base.errors import EpicError
from epic100.base.shipped import existing_path

ROOT = Path(__file__).resolve().parents[2]
LEAST = {"annotations": {"train": "a.csv", "val": "b.csv"}, "videos": {"root": "videos"}}


def with_key(dotted, value):
    """The least config with one key set, sections made on the way."""
    config = section = copy.deepcopy(LEAST)
    *parents, last = dotted.split(".")
    for name in parents:
        section = section.setdefault(name, {})
    section[last] = value
    return config


def test_two_csvs_and_a_video_root_are_enough():
    config = complete_config(LEAST)
    assert config["classes"] == {"verbs": 97, "nouns": 300}
    assert config["videos"] == {
        "root": "videos", "sheet": "config/videos.tsv", "subset": False, "download": False,
        "proxy": None,
    }  # fmt: skip
    assert config["annotations"]["download"] is False
    assert config["annotations"]["test"] is None and config["annotations"]["format"] == "official"
    assert config["export"]["sls"] == {"pt": 2, "tl": 3, "td": 3}
    assert config["train"]["load_from"] == "auto" and config["train"]["options"] == {}
    assert "minikitchen" not in config


def test_what_is_set_stays_and_the_caller_s_dict_is_left_alone():
    config = with_key("export.sls.pt", 0) | {"minikitchen": {"damage": {"P01_01": "empty"}}}
    before = copy.deepcopy(config)
    filled = complete_config(config)
    assert config == before
    assert filled["export"]["sls"] == {"pt": 0, "tl": 3, "td": 3}
    damage = {"P01_01": "empty"}
    assert filled["minikitchen"] == {"seed": 0, "level": "easy", "damage": damage}
    assert complete_config(filled) == filled
    filled["train"]["options"]["a"] = 1
    assert complete_config(config)["train"]["options"] == {}


def test_an_empty_section_asks_for_copies_by_their_defaults():
    proxy = complete_config(with_key("videos.proxy", {}))["videos"]["proxy"]
    assert proxy == {
        "height": 256, "gop": 30, "crf": 18, "b_frames": 5, "root": "results/proxies",
    }  # fmt: skip


def test_the_overlay_for_the_test_board_is_valid_over_the_config_that_ships():
    filled = layered_config([ROOT / "config/trainval.yaml"])
    assert filled["train"]["split"] == "trainval"
    assert filled["export"]["sls"] == {"pt": 2, "tl": 3, "td": 4}


def test_a_config_of_the_working_directory_goes_before_the_one_that_ships(tmp_path):
    (tmp_path / "config").mkdir()
    own = LEAST | {"export": {"sls": {"pt": 0}}}
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(own))
    (tmp_path / "over.yaml").write_text("export: {sls: {td: 4}}\n")
    config = layered_config([tmp_path / "over.yaml"], tmp_path)
    assert config["annotations"]["val"] == "b.csv"
    assert config["export"]["sls"] == {"pt": 0, "tl": 3, "td": 4}


@pytest.mark.parametrize("content, words", [
    (b"\xff", "not a readable config"), (None, "not a readable config"),
    (b"[1]", "is a list; expected a config"),
])  # fmt: skip
def test_a_file_that_is_no_config_is_named(tmp_path, content, words):
    path = tmp_path / "over.yaml"
    if content:
        path.write_bytes(content)
    with pytest.raises(EpicError, match=rf"over\.yaml: {words}"):
        layered_config([path], tmp_path)


@pytest.mark.parametrize("name", ["config.yaml", "demo.yaml"])
def test_the_configs_that_ship_are_valid(name):
    config = yaml.safe_load((ROOT / "config" / name).read_text())
    assert complete_config(config)["annotations"]["val"].endswith("EPIC_100_validation.csv")


@pytest.mark.parametrize(
    "config, words",
    [
        (
            with_key("vidoes", {}),
            r"unknown key 'vidoes'; did you mean 'videos'\? \(known here: ann",
        ),
        (with_key("clean.polcy", "video"), r"unknown key 'clean.polcy'; did you mean 'policy'\?"),
        (with_key("export.sls.x", 1), r"unknown key 'export.sls.x' \(known here: pt, tl, td\)"),
        (with_key("clean.policy", "frame"), r"clean.policy is 'frame'; expected one of \['segment"),
        (with_key("videos.root", None), r"videos.root is None; expected of type string \(Files"),
        (with_key("train.epochs", "ten"), r"train.epochs is 'ten'; expected of type"),
        (with_key("train.epochs", 0), r"train.epochs is 0; expected minimum 1"),
        (with_key("train.epochs", 8.0), r"train.epochs is 8.0; expected of type"),
        (with_key("train.seed", True), r"train.seed is True; expected of type integer"),
        (with_key("classes.verbs", 97.0), r"classes.verbs is 97.0; expected of type integer"),
        (with_key("train.target_fps", "30"), r"train.target_fps is '30'; expected of type"),
        (with_key("videos.subset", "yes"), r"videos.subset is 'yes'; expected of type boolean"),
        (with_key("export.sls.pt", 6), r"export.sls.pt is 6; expected maximum 5"),
        (with_key("scan.stall_seconds", 0), r"scan.stall_seconds is 0; expected exclusiveMinimum"),
        (with_key("videos.download", "yes"), r"videos.download is 'yes'; expected of type boolean"),
        (with_key("download.tries", 0), r"download.tries is 0; expected minimum 1"),
        (with_key("clean", None), r"clean is None; expected of type object"),
        (with_key("annotations", "a.csv"), r"annotations is 'a.csv'; expected of type object"),
        (with_key("minikitchen.damage.P01_01", "burnt"), r"minikitchen.damage.P01_01 is 'burnt'"),
        ({}, r"key 'annotations', 'videos' is missing$"),
        (LEAST | {"annotations": {"train": "a.csv"}}, r"key 'annotations.val' is missing$"),
    ],
)
def test_a_wrong_key_or_value_is_one_sentence_that_names_it(config, words):
    with pytest.raises(EpicError, match=rf"^config: {words}"):
        complete_config(config)


def test_all_that_is_wrong_is_said_at_once():
    config = with_key("clean.policy", 3) | {"videos": {"rot": "videos"}}
    config["minikitchen"] = {"damage": {1: "burnt", "P01_01": "burnt"}}
    with pytest.raises(EpicError) as caught:
        complete_config(config)
    for words in (
        "clean.policy is 3", "unknown key 'videos.rot'; did you mean 'root'?",
        "key 'videos.root' is missing", "damage.1 is 'burnt'", "damage.P01_01 is 'burnt'",
    ):  # fmt: skip
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folders, found", [
    ((), "."), (("shipped",), "shipped"), (("shipped", "."), "."),
])  # fmt: skip
def test_a_file_of_the_working_directory_goes_before_the_one_that_ships(
    tmp_path, monkeypatch, folders, found
):
    monkeypatch.chdir(tmp_path)
    Path("shipped").mkdir()
    for folder in folders:
        Path(folder, "videos.tsv").touch()
    assert existing_path("videos.tsv", Path("shipped")) == str(Path(found, "videos.tsv"))
