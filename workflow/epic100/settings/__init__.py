"""The config: every key of it, and how it is read and checked."""

from epic100.settings.config import (
    ANNOTATION_KEYS,
    PREDICTION_KEYS,
    Settings,
    home_of,
    runs_to_compare,
)
from epic100.settings.files import BASE_CONFIG, SET, layered_settings, read_layer, read_settings
from epic100.settings.inputs import Annotations, Classes, Minikitchen
from epic100.settings.prediction import FeatureSettings, PredictSettings, TimelineSettings
from epic100.settings.results import BrowseSettings
from epic100.settings.section import checked
from epic100.settings.training import CheckpointSettings, TrainSettings, ValidateSettings
from epic100.settings.typed import set_words
from epic100.settings.videos import ProxySettings, ScanLimits

__all__ = [
    "BASE_CONFIG",
    "ANNOTATION_KEYS",
    "SET",
    "PREDICTION_KEYS",
    "Annotations",
    "BrowseSettings",
    "CheckpointSettings",
    "Classes",
    "FeatureSettings",
    "Minikitchen",
    "PredictSettings",
    "ProxySettings",
    "ScanLimits",
    "ScanLimits",
    "Settings",
    "TimelineSettings",
    "TrainSettings",
    "ValidateSettings",
    "checked",
    "home_of",
    "layered_settings",
    "read_layer",
    "read_settings",
    "runs_to_compare",
    "set_words",
]
