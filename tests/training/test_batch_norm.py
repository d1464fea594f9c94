"""Statistics that two real processes pool; test_run.py looks at a frozen BatchNorm."""

from types import SimpleNamespace

import torch
from mmengine.hooks import SyncBuffersHook

from epic100.training.batch_norm import PooledStatisticsHook
from support.small_runs import end_of, processes


def pool(rank: int, store: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank,
                                         world_size=2)  # fmt: skip
    torch.manual_seed(0)
    x = torch.randn(2, 8, 3, 2, 5, 5) * torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1, 1, 1)
    x[1] += 5  # what the two processes see differs
    axes = (0, 2, 3, 4)
    net = torch.nn.Sequential(torch.nn.BatchNorm3d(3))
    net[0].running_mean = x[rank].mean(axes)
    net[0].running_var = x[rank].var(axes, unbiased=False)
    PooledStatisticsHook().after_train_epoch(SimpleNamespace(model=net))
    SyncBuffersHook().after_train_epoch(SimpleNamespace(model=net))
    both = x.flatten(0, 1)
    torch.testing.assert_close(net[0].running_mean, both.mean(axes), atol=1e-5, rtol=0)
    torch.testing.assert_close(net[0].running_var, both.var(axes, unbiased=False), atol=1e-4,
                               rtol=0)  # fmt: skip
    torch.distributed.destroy_process_group()  # without it torch may abort at the end


def test_statistics_of_two_processes_are_those_of_their_batches_together(tmp_path):
    ranks = [processes.Process(target=pool, args=(n, str(tmp_path / "store"))) for n in (0, 1)]
    for rank in ranks:
        rank.start()
    assert [end_of(rank) for rank in ranks] == [0, 0]
