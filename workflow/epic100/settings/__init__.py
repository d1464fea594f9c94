"""The config: every key of it, and how it is read and checked."""

from epic100.settings.config import (
    Settings,
    home_of,
    runs_to_compare,
)
from epic100.settings.files import BASE_CONFIG, layered_settings, read_settings
from epic100.settings.inputs import Annotations, Classes, Minikitchen, Participants
from epic100.settings.prediction import FeatureSettings, PredictSettings, TimelineSettings
from epic100.settings.results import BrowseSettings, ExportSettings
from epic100.settings.section import checked_section
from epic100.settings.training import Modules, TrainSettings, ValidateSettings
from epic100.settings.videos import ProxySettings, ScanLimits

__all__ = [
    "BASE_CONFIG",
    "Annotations",
    "BrowseSettings",
    "ExportSettings",
    "Classes",
    "FeatureSettings",
    "Minikitchen",
    "Modules",
    "Participants",
    "PredictSettings",
    "ProxySettings",
    "ScanLimits",
    "Settings",
    "TimelineSettings",
    "TrainSettings",
    "ValidateSettings",
    "checked_section",
    "home_of",
    "layered_settings",
    "read_settings",
    "runs_to_compare",
]
