"""The config: every key of it, and how it is read and checked."""

from epic100.settings.config import Settings
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
from epic100.settings.read import checked, layered_settings, read_layer, read_settings

__all__ = [
    "BrowseSettings", "CheckpointSettings", "Classes", "ClipSettings", "FeatureSettings",
    "Minikitchen", "PictureSettings", "PredictSettings", "ProbeSettings", "ProxySettings",
    "ScanLimits", "ScanSettings", "Settings", "TimelineSettings", "TrainSettings",
    "ValidateSettings", "checked", "layered_settings", "read_layer", "read_settings",
]  # fmt: skip
