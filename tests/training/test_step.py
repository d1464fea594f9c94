"""A step that a GPU computes, read by the process: here on a CPU, with a queue that is recorded."""

import torch

from epic100.training import step
from epic100.training.step import Mark, Step


def test_a_step_is_read_only_after_the_copy_of_its_figures(monkeypatch):
    """The process waited for the end of the step, behind which the copy still was in the queue."""
    queue = []

    class RecordedMark(Mark):
        def __init__(self, device):
            super().__init__(device)
            queue.append(self)

        def reach(self):
            done.extend(queue[: queue.index(self) + 1])

    def recorded_cat(tensors):
        # The joined figures are what is copied from the device.
        queue.append("copy")
        return torch.concatenate(tensors)

    done = []
    monkeypatch.setattr(step, "Mark", RecordedMark)
    monkeypatch.setattr(step.torch, "cat", recorded_cat)
    cpu = torch.device("cpu")
    began, ended = RecordedMark(cpu), RecordedMark(cpu)
    sent = Step(number=0, batch={}, lr=0.1, waited=0.0, before=None, began=began, ended=ended)
    sent.send({"loss": torch.tensor(2.0)}, stop_requested=False)
    loss, *_ = sent.read()
    assert loss == 2 and "copy" in done
