"""Prediction: a model over a split's clean segments, in shards that outlive a killed job."""

from epic100.prediction.predict import PredictSettings, predict

__all__ = ["PredictSettings", "predict"]
