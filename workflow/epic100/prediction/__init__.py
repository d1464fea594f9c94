"""Prediction: a model over a split's clean segments, in shards that outlive a killed job."""
