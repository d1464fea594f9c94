"""Prediction: run a model over a split's clean segments, in shards that survive a killed job."""
