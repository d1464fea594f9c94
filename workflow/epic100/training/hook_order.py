"""The order in which MMEngine calls the hooks of a training: the lowest number first.

Its own come in between: RuntimeInfoHook 10; IterTimerHook, DistSamplerSeedHook, SyncBuffersHook and
EMAHook 50; LoggerHook 60; ParamSchedulerHook 70. Of equal numbers the default hooks come first.
"""

PRIORITIES = {
    "SampleSeedHook": 10,  # before anything draws at random
    "Tf32Hook": 11,
    "FrozenBatchNormHook": 12,
    "PooledStatisticsHook": 49,  # before SyncBuffersHook
    "CompileHook": 51,
    "AccumulateHook": 52,
    "HistoryHook": 71,  # keeps the sums that the next two read
    "LoaderShareHook": 72,
    "ProgressHook": 73,
    "SafeCheckpointHook": 90,  # saves what all others made of a batch, and may end the training
}
