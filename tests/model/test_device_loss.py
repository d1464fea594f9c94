"""The head's loss: MMAction2's figures, and nothing that waits for the device."""

import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.registry import init_default_scope
from torch.utils._python_dispatch import TorchDispatchMode

import epic100.model.registered  # noqa: F401
from epic100.model.heads import BaseHead
from epic100.model.mmaction_import import models

PAIRS, CHANNELS = 40, 8


def samples(labels):
    return [ActionDataSample().set_gt_label(label) for label in labels]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """Builds a head over the pairs of a table."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    rows = [f"{number}\t0\t{number}\t1\n" for number in range(PAIRS)]
    path.write_text("pair_id\tverb\tnoun\tcount\n" + "".join(rows))

    def built(kind="X3DHead", **more):
        init_default_scope("mmaction")
        torch.manual_seed(0)
        own = {"type": kind, "in_channels": CHANNELS, **more}
        return MODELS.build({"type": "EpicHead", "head": own, "pairs": str(path)})

    return built


SOFT = [torch.eye(PAIRS)[i] * 0.7 + 0.3 / PAIRS for i in range(6)]


@pytest.mark.parametrize("smooth", [0.0, 0.1])
@pytest.mark.parametrize("labels", [[3], [0, 1, 2, 3, 4, 39], SOFT, SOFT[:1]])
def test_losses_and_figures_are_mmaction2_s_to_the_bit(head, labels, smooth):
    ours = head(label_smooth_eps=smooth)
    scores = torch.randn(len(labels), PAIRS)
    expected = BaseHead.loss_by_feat(ours, scores, samples(labels))
    found = ours.loss_by_feat(scores, samples(labels))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].item() == value.item(), name


class _Waits(TorchDispatchMode):
    """Lists operators that bring a value to the CPU, or would."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        to_host = str(kwargs.get("device", "")) == "cpu" and args[0].device.type != "cpu"
        if func is torch.ops.aten._local_scalar_dense.default or to_host:
            self.found.append(str(func))
        return func(*args, **kwargs)


@pytest.mark.parametrize("kind, more", [
    ("X3DHead", {"label_smooth_eps": 0.1}),
    ("X3DHead", {"loss_cls": {"type": "CrossEntropyLoss"}}),
    ("I3DHead", {}),
])  # fmt: skip
def test_a_step_of_head_and_loss_never_waits_for_the_device(head, kind, more):
    """On torch's `meta` device, which has no values: whatever asks for one is caught."""
    built = head(kind, **more).to("meta")
    features = torch.randn(6, CHANNELS, 2, 3, 3, device="meta", requires_grad=True)
    labelled = [ActionDataSample().set_gt_label(i).to("meta") for i in range(6)]
    with _Waits() as theirs, pytest.raises(NotImplementedError):
        BaseHead.loss_by_feat(built, built(features), labelled)
    assert theirs.found  # MMAction2's own does
    with _Waits() as ours:
        losses = built.loss(features, labelled)
        losses["loss_cls"].backward()
    assert not ours.found and set(losses) == {"loss_cls", "top1_acc", "top5_acc"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_scores_give_a_loss_in_float32(head, dtype):
    losses = head().loss_by_feat(torch.randn(6, PAIRS).to(dtype), samples(range(6)))
    assert losses["loss_cls"].dtype == torch.float32 and torch.isfinite(losses["loss_cls"])


def test_a_head_with_a_loss_of_its_own_keeps_it(head):
    @MODELS.register_module(force=True)
    class Own(models.heads.X3DHead):
        def loss_by_feat(self, cls_scores, data_samples):
            return {"loss_cls": cls_scores.sum()}

    assert "loss_by_feat" not in vars(head("Own"))
