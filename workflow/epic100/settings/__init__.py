"""The config: every key of it, and how it is read and checked."""

from epic100.settings.config import (
    Settings,
    home_of,
    layered_settings,
    read_layer,
    read_settings,
    runs_to_compare,
    set_words,
)
from epic100.settings.keys import (
    BrowseSettings,
    CheckpointSettings,
    Classes,
    ClipSettings,
    FeatureSettings,
    Minikitchen,
    PictureSettings,
    PredictSettings,
    ProbeSettings,
    ProxySettings,
    ScanLimits,
    ScanSettings,
    TimelineSettings,
    TrainSettings,
    ValidateSettings,
)
from epic100.settings.section import checked

__all__ = [
    "BrowseSettings", "CheckpointSettings", "Classes", "ClipSettings", "FeatureSettings",
    "Minikitchen", "PictureSettings", "PredictSettings", "ProbeSettings", "ProxySettings",
    "ScanLimits", "ScanSettings", "Settings", "TimelineSettings", "TrainSettings",
    "ValidateSettings", "checked", "home_of", "layered_settings", "read_layer", "read_settings",
    "runs_to_compare", "set_words",
]  # fmt: skip
