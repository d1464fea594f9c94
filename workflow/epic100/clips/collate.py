"""Batches that travel between processes in one piece.

torch passes each tensor from a worker to the training by a file descriptor of its own, which stays
open until the batch is used. MMEngine's `pseudo_collate` makes two a segment, clip and label: 9,216
for 18 workers, two batches of 128 segments each ahead, where Linux allows 1,024 or 4,096.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS
from mmengine.structures import BaseDataElement
from torch import Tensor


class TensorsInOne(list[Tensor]):
    """Tensors of one shape that travel as one; a list, as MMAction2's preprocessor wants it."""

    def __reduce__(self) -> tuple:
        return _apart, (torch.stack(list(self)),)

    def pin_memory(self) -> "TensorsInOne":
        """The same in memory that a GPU copies from; torch calls this."""
        return _apart(torch.stack(list(self)).pin_memory())


class SamplesByValue(list[BaseDataElement]):
    """Data samples whose labels travel as numbers."""

    def __reduce__(self) -> tuple:
        return _samples, ([(type(s), s.metainfo, _arrays(s)) for s in self],)

    def pin_memory(self) -> "SamplesByValue":
        """The same: a label is too small to be pinned."""
        return self


@FUNCTIONS.register_module()
def collate_in_one(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """As `pseudo_collate`: `inputs` and `data_samples` as lists, but made to travel in one piece.

    Args:
        samples: What the dataset gives. Where their `inputs` differ in shape or type they
            travel one by one.
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
