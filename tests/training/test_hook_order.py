from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import epic100.mmaction  # noqa: F401  (registers what the config names)
from epic100.training.config import build_config
from epic100.training.device import Placement
from epic100.training.hook_order import PRIORITIES
from epic100.training.plan import plan_run
from support.small_runs import settings


def test_the_hooks_of_a_training_are_called_in_the_order_that_is_written_down(lab, tmp_path):
    init_default_scope("mmaction")
    chosen = settings(ema=0.9, accumulate=2, compile=True, bn="frozen")
    config = build_config(chosen, lab.results, lab.root)
    plan = plan_run(config, chosen, Placement("cpu", 1), work_dir=tmp_path)
    names = [type(hook).__name__ for hook in Runner.from_cfg(plan.config).hooks]
    assert names == [
        "RuntimeInfoHook", "SampleSeedHook", "FrozenBatchNormHook", "IterTimerHook",
        "DistSamplerSeedHook", "SyncBuffersHook", "EMAHook", "CompileHook", "AccumulateHook",
        "LoggerHook", "ParamSchedulerHook", "HistoryHook", "LoaderShareHook", "ProgressHook",
        "SafeCheckpointHook",
    ]  # fmt: skip
    # One is of several processes, before SyncBuffersHook's 50; the other is not in the config.
    others = ("PooledStatisticsHook", "DiagnosisHook")
    assert PRIORITIES[others[0]] == 49 and list(PRIORITIES.values()) == sorted(PRIORITIES.values())
    known = [name for name in PRIORITIES if name not in others]
    assert [name for name in names if name in PRIORITIES] == known
