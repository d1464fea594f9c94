"""Batches that are sent between processes as few large tensors.

torch passes each tensor from a worker to the training process with its own file descriptor, which
stays open until the batch is used. MMEngine's `pseudo_collate` keeps two tensors per segment, clip
and label. With 18 workers, two prefetched batches each and 128 segments per batch, that is 9,216
descriptors. Linux allows 1,024 or 4,096.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS
from mmengine.structures import BaseDataElement
from torch import Tensor


class TensorsInOne(list[Tensor]):
    """A list of tensors of one shape, sent as one tensor. MMAction2's preprocessor needs a list."""

    def __reduce__(self) -> tuple:
        return _apart, (torch.stack(list(self)),)

    def pin_memory(self) -> "TensorsInOne":
        """Return a copy in pinned memory. torch calls this."""
        return _apart(torch.stack(list(self)).pin_memory())


class SamplesByValue(list[BaseDataElement]):
    """A list of data samples. Their labels are sent as NumPy arrays, not as tensors."""

    def __reduce__(self) -> tuple:
        return _samples, ([(type(s), s.metainfo, _arrays(s)) for s in self],)

    def pin_memory(self) -> "SamplesByValue":
        """Return self: labels are too small for pinned memory to matter."""
        return self


@FUNCTIONS.register_module()
def collate_in_one(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collate as `pseudo_collate` does, into lists that need few file descriptors.

    Args:
        samples: Samples of the dataset. If their `inputs` differ in shape or dtype, each is sent as
            a tensor of its own.

    Returns:
        The batch with the lists `inputs` and `data_samples`.
    """
    batch = pseudo_collate(samples)
    if len({(tuple(item.shape), item.dtype) for item in batch["inputs"]}) == 1:
        batch["inputs"] = TensorsInOne(batch["inputs"])
    batch["data_samples"] = SamplesByValue(batch["data_samples"])
    return batch


def _apart(stacked: Tensor) -> TensorsInOne:
    return TensorsInOne(stacked.unbind())


def _arrays(sample: BaseDataElement) -> dict[str, Any]:
    return {k: v.numpy() if isinstance(v, Tensor) else v for k, v in sample.items()}


def _samples(parts: list[tuple[type[BaseDataElement], dict, dict]]) -> SamplesByValue:
    found = SamplesByValue()
    for kind, about, arrays in parts:
        values = {k: torch.as_tensor(v) if _is_array(v) else v for k, v in arrays.items()}
        found.append(kind(metainfo=about, **values))
    return found


def _is_array(value: Any) -> bool:
    return type(value).__module__ == "numpy"
