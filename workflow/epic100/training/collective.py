"""What the processes of one training tell each other, besides gradients."""

from collections.abc import Callable
from typing import TypeVar

from mmengine.dist import broadcast_object_list, is_main_process

from epic100.base.errors import EpicError

Result = TypeVar("Result")


def on_rank_0(task: Callable[[], Result]) -> Result:
    """Do `task` on rank 0 only; every rank gets its result, or raises its EpicError."""
    told = [None, None]
    if is_main_process():
        try:
            told[0] = task()
        except EpicError as error:
            told[1] = str(error)
    broadcast_object_list(told)
    if told[1] is not None:
        raise EpicError(told[1])
    return told[0]
