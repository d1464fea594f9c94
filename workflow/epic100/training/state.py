"""Collect the state of a run as one dict of tensors and plain Python, and restore it.

MMEngine's own checkpoint (0.10.7) contains objects that `weights_only=True` refuses, formats the
config again for each save, and does not save state per rank.
"""

import logging
import numbers
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from epic100.base.errors import EpicError
from epic100.training.device import bare

log = logging.getLogger(__name__)


def collect_state(runner: Runner, epoch: int, done: int, config_text: str) -> dict:
    """Collect the state of a run, in the form that MMEngine's resume reads.

    `rank_states` is added to it: the buffers of each rank (BatchNorm's running statistics) and,
    during a gradient accumulation, its gradients. All ranks must call it together.

    Args:
        runner: MMEngine's Runner in training.
        epoch: Number of finished epochs.
        done: Number of finished batches.
        config_text: The run's config as text.

    Raises:
        EpicError: A weight is NaN or infinite.
    """
    model = bare(runner.model)
    sums = torch.stack([p.detach().double().sum() for p in model.parameters()])
    if not torch.isfinite(sums).all():
        raise EpicError("weights are NaN or infinite")
    weights = model.state_dict()
    buffers = {n: buffer.cpu() for n, buffer in model.named_buffers() if n in weights}
    own: dict[str, dict] = {"buffers": buffers}
    if not runner.optim_wrapper.should_update():  # gradients that are not applied yet
        own["gradients"] = {
            name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None
        }
    state = {
        "meta": {
            "epoch": epoch,
            "iter": done,
            "seed": runner.seed,
            "dataset_meta": runner.train_dataloader.dataset.metainfo,
            "cfg": config_text,
        },
        "state_dict": weights,
        "message_hub": _plain_hub(runner.message_hub),
        "optimizer": runner.optim_wrapper.state_dict(),
        "param_schedulers": [plain(s.state_dict()) for s in runner.param_schedulers or []],
        "rank_states": all_gather_object(own),
    }
    runner.call_hook("before_save_checkpoint", checkpoint=state)
    return state


def take_own_state(runner: Runner, checkpoint: dict) -> None:
    """Restore this rank's own state, just before the Runner loads the checkpoint.

    If the number of processes has changed, all continue from rank 0's buffers, and this is logged.
    """
    states = checkpoint["rank_states"]
    if len(states) != get_world_size():
        if is_main_process():
            log.info(
                f"saved by {len(states)} processes, resumed by {get_world_size()}: all go on from "
                "rank 0's BatchNorm statistics, equal to rounding, not to the bit"
            )
        return
    own = states[get_rank()]
    checkpoint["state_dict"].update(own["buffers"])
    parameters = dict(bare(runner.model).named_parameters())
    for name, gradient in own.get("gradients", {}).items():
        parameters[name].grad = gradient.to(parameters[name].device)


def plain(value: Any) -> Any:
    """Convert NumPy scalars to Python numbers, also in dicts, lists and tuples; keep tensors."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value  # np.float64 is also a float


def _plain_hub(hub: MessageHub) -> dict:
    """The part of MMEngine's message hub that resuming uses; logged figures start again."""
    info = {k: plain(v) for k, v in hub.runtime_info.items() if k != "cfg" and _is_plain(v)}
    return {"log_scalars": {}, "runtime_info": info, "resumed_keys": dict.fromkeys(info, True)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (numbers.Number, np.generic, str))
