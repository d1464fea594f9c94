"""Training: the workflow's settings into an MMEngine run that can be killed and goes on."""

from epic100.training.launch import launch
from epic100.training.run import TrainSettings, build_config, set_epochs, train

__all__ = ["TrainSettings", "build_config", "launch", "set_epochs", "train"]
