"""Start a training: in this process, or by torchrun in several, on one node or on several."""

from pathlib import Path
from typing import Any

from epic100.base.processes import choose_device, look_for_gpus, run_processes
from epic100.settings.training import TrainSettings
from epic100.training.train import train


def launch(settings: TrainSettings, *, requested_gpus: int = 0, **arguments: Any) -> None:
    """Train on the device and with the number of processes that the settings ask for.

    Args:
        settings: The `train:` section.
        requested_gpus: Number of GPUs that the rule requests from its scheduler.
        arguments: The other arguments of `train`.

    Raises:
        EpicError: Torch cannot use a GPU that was granted or requested; or a process failed, with
            its own message.
    """
    gpus = look_for_gpus(requested_gpus)
    placement = choose_device("train", settings.device, settings.gpus, gpus, settings.nodes)
    # MMEngine uses any GPU that it sees, and this process sees its GPUs already. So a training on
    # the CPU then needs another process.
    if placement.processes == 1 and (placement.device == "cuda" or not gpus.visible):
        train(settings, **arguments)
    else:
        folder = Path(arguments["results"], "work_dirs")
        run_processes(train, {"settings": settings, **arguments}, placement, folder)
