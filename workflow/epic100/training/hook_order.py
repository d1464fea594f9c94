"""The order in which MMEngine calls the hooks of a training: the lowest number first.

MMEngine's own hooks have these numbers: RuntimeInfoHook 10; IterTimerHook, DistSamplerSeedHook,
SyncBuffersHook and EMAHook 50; LoggerHook 60; ParamSchedulerHook 70. If two numbers are equal, the
default hook runs first.
"""

PRIORITIES = {
    "SampleSeedHook": 10,  # before any random number is drawn
    "FrozenBatchNormHook": 12,
    "PooledStatisticsHook": 49,  # before SyncBuffersHook
    "CompileHook": 51,
    "AccumulateHook": 52,
    "HistoryHook": 71,  # updates the sums that the next two read
    "LoaderShareHook": 72,
    "ProgressHook": 73,
    "DiagnosisHook": 74,
    "SafeCheckpointHook": 90,  # saves the result of all others; may end training
}
