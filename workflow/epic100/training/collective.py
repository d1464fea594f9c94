"""What the processes of one training exchange, apart from gradients."""

from collections.abc import Callable
from typing import Any, TypeVar

from mmengine.dist import broadcast_object_list, is_main_process

from epic100.base.errors import EpicError

Result = TypeVar("Result")


def on_rank_0(task: Callable[[], Result]) -> Result:
    """Run `task` on rank 0 only and give its result to all ranks.

    All ranks must call it together.

    Raises:
        EpicError: The task raised it on rank 0; every rank then raises it.
    """
    outcome: list[Any] = [None, None]  # the result, or the message of an error
    if is_main_process():
        try:
            outcome[0] = task()
        except EpicError as error:
            outcome[1] = str(error)
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise EpicError(outcome[1])
    return outcome[0]
