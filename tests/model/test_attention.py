"""Fused attention against MMAction2's own, and blocks that are computed again."""

from types import SimpleNamespace

import pytest
import torch
from mmaction.registry import MODELS

import epic100.mmaction  # noqa: F401  (registers what the configs name)
from epic100.training.check import saved_for_backward
from epic100.training.hooks import RecomputeHook

SMALL = {"embed_dims": 48, "depth": 3, "num_heads": 4, "img_size": 32, "num_frames": 8}


def backbone(kind, **more):
    """A small one with weights that are the same each time; no bias and no place is zero."""
    built = MODELS.build({"type": kind, **SMALL, **more})
    generator = torch.Generator().manual_seed(0)
    for value in built.parameters():
        torch.nn.init.normal_(value, std=0.2, generator=generator)
    return built


def clips():
    return torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(1))


def gradients(model):
    """Gradients of a loss, with dropout and drop path that draw the same each time."""
    torch.manual_seed(2)
    model(clips()).square().sum().backward()
    return {name: value.grad.clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize("more", [{}, {"qkv_bias": False}, {"qk_scale": 0.3}], ids=str)
def test_fused_attention_gives_the_features_and_gradients_of_mmactions(more):
    own, fused = (backbone(f"{kind}VisionTransformer", **more) for kind in ("", "Fused"))
    assert list(own.state_dict()) == list(fused.state_dict())
    torch.testing.assert_close(fused(clips()), own(clips()), atol=1e-6, rtol=0)
    torch.testing.assert_close(gradients(fused), gradients(own), atol=1e-5, rtol=1e-4)


def test_it_drops_as_many_weights_as_it_is_told_and_none_in_a_test():
    model = backbone("FusedVisionTransformer", attn_drop_rate=0.5)
    assert not torch.equal(model(clips()), model(clips()))
    whole = backbone("VisionTransformer").eval()
    torch.testing.assert_close(model.eval()(clips()), whole(clips()), atol=1e-6, rtol=0)


def test_blocks_that_are_computed_again_give_the_same_gradients_and_keep_less():
    found, kept = [], []
    for on in (False, True):
        model = backbone("FusedVisionTransformer", drop_path_rate=0.5, drop_rate=0.3)
        runner = SimpleNamespace(model=SimpleNamespace(backbone=model))
        RecomputeHook("backbone.blocks", on=on).before_train(runner)
        with saved_for_backward(model) as saved:
            model(clips())
        kept.append(sum(saved.values()))
        found.append(gradients(model))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert kept[1] < kept[0] / 2
