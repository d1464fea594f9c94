"""What is made from the settings is as they say."""

import yaml

from epic100.settings import layered_settings
from epic100.settings.keys import TrainSettings
from epic100.training.checkpoint_hook import SafeCheckpointHook
from tools import settings_pages


def test_the_readme_s_table_and_the_schema_are_those_of_the_settings():
    text = settings_pages.README.read_text(encoding="utf-8")
    assert settings_pages.readme(text) == text, "make keys"
    assert settings_pages.SCHEMA.read_text(encoding="utf-8") == settings_pages.schema(), "make keys"


def test_the_config_that_ships_says_what_the_defaults_are():
    shipped = yaml.safe_load((settings_pages.ROOT / "config/config.yaml").read_text())
    del shipped["annotations"]["test"]  # null by default: not everybody has it
    assert layered_settings([]).only(*shipped) == {
        "annotations": {"test": "annotations/EPIC_100_test_timestamps.csv"}
    }


def test_a_hook_of_a_recipe_saves_as_often_as_the_settings_say():
    hook, settings = SafeCheckpointHook(), TrainSettings().checkpoint
    assert (hook.seconds, hook.keep) == (settings.seconds, settings.keep)
