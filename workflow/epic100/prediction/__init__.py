"""Prediction: a model over a split's clean segments, in shards that outlive a killed job."""

from epic100.prediction.file import Predictions, read_predictions, write_predictions
from epic100.prediction.predict import PredictSettings, predict

__all__ = ["PredictSettings", "Predictions", "predict", "read_predictions", "write_predictions"]
