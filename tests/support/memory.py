"""What a forward pass keeps in memory."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def saved_for_backward(model: torch.nn.Module) -> Iterator[dict[int, int]]:
    """Count the bytes that forward passes keep for their backward passes, without the weights.

    Yields:
        A dict that is filled during the block: the bytes of each storage, by its address. A storage
        that several tensors share counts once.
    """
    # `_cdata` is the address of the object in C++ that is the storage.
    weight_addresses = {value.untyped_storage()._cdata for value in model.parameters()}
    storage_bytes: dict[int, int] = {}

    def note_storage(tensor: torch.Tensor) -> torch.Tensor:
        """Note the storage of a tensor that a forward pass keeps, and keep it as it is."""
        storage = tensor.untyped_storage()
        if storage._cdata not in weight_addresses:
            storage_bytes[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note_storage, lambda tensor: tensor):
        yield storage_bytes
