"""Fused attention compared with MMAction2's own, and blocks that are recomputed."""

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.runner import turn_on_activation_checkpointing

import epic100.mmaction  # noqa: F401  (registers what the configs name)
from support.models import saved_for_backward

SMALL = {"embed_dims": 48, "depth": 3, "num_heads": 4, "img_size": 32, "num_frames": 8}


def backbone(backbone_type, **options):
    """A small transformer whose weights are random, with the same seed each time, and never 0."""
    built = MODELS.build({"type": backbone_type, **SMALL, **options})
    generator = torch.Generator().manual_seed(0)
    for value in built.parameters():
        torch.nn.init.normal_(value, std=0.2, generator=generator)
    return built


def clips():
    return torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(1))


def gradients(model):
    """Gradients by name of the weight. Dropout and drop path draw the same each time."""
    torch.manual_seed(2)
    model(clips()).square().sum().backward()
    return {name: value.grad.clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize("options", [{}, {"qkv_bias": False}, {"qk_scale": 0.3}], ids=str)
def test_fused_attention_equals_mmaction2_s(options):
    fused = backbone("FusedVisionTransformer", **options)
    own = backbone("VisionTransformer", **options)
    assert list(own.state_dict()) == list(fused.state_dict())
    torch.testing.assert_close(fused(clips()), own(clips()), atol=1e-6, rtol=0)
    torch.testing.assert_close(gradients(fused), gradients(own), atol=1e-5, rtol=1e-4)


def test_dropout_of_attention_is_random_in_training_alone():
    fused = backbone("FusedVisionTransformer", attn_drop_rate=0.5)
    assert not torch.equal(fused(clips()), fused(clips()))
    own = backbone("VisionTransformer").eval()
    torch.testing.assert_close(fused.eval()(clips()), own(clips()), atol=1e-6, rtol=0)


def with_recomputed(blocks, **options):
    """Return a small VideoMAE with blocks, by number, that MMEngine lets compute again.

    The model around the backbone gives the names that `activation_checkpointing` has in a recipe.
    """
    model = backbone("FusedVisionTransformer", **options)
    names = [f"backbone.blocks.{number}" for number in blocks]
    turn_on_activation_checkpointing(torch.nn.ModuleDict({"backbone": model}), names)
    return model


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
def test_recomputed_blocks_save_memory_and_equal_gradients(autocast):
    gradients_found, saved_bytes = [], []
    for blocks in ((), (0, 1, 2)):
        model = with_recomputed(blocks, drop_path_rate=0.5, drop_rate=0.3)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            with saved_for_backward(model) as saved:
                model(clips())
            gradients_found.append(gradients(model))
        saved_bytes.append(sum(saved.values()))
    stored, recomputed = gradients_found
    assert all(torch.equal(stored[name], recomputed[name]) for name in stored)
    assert saved_bytes[1] < saved_bytes[0] / 2


@pytest.mark.parametrize("backbone_type", ["AvionVisionTransformer", "LavilaVisionTransformer"])
def test_a_frozen_encoder_only_computes(backbone_type):
    learning, frozen = (
        backbone(backbone_type, frozen=value, drop_path_rate=0.5).train() for value in (False, True)
    )
    assert learning(clips()).requires_grad and not frozen(clips()).requires_grad
    assert not any(value.requires_grad for value in frozen.parameters())
    # No branch is left out, though the model is in training.
    assert torch.equal(frozen(clips()), frozen(clips()))
    torch.testing.assert_close(frozen(clips()), learning.eval()(clips()))
