"""Names and shapes are those of the two projects' own X3D-S, written down as they build them
(SlowFast 287ec00, pytorchvideo 0.1.5); with random weights both gave MMAction2's scores to 3e-7."""

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope

import epic100.model.registered  # noqa: F401
from epic100.model.foreign_names import mmaction_names

WIDTHS, BLOCKS, INNER = (24, 48, 96, 192), (3, 5, 11, 7), (54, 108, 216, 432)
SQUEEZED = (8, 8, 16, 32)


def norm(name, channels):
    parts = {part: (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {f"{name}.{part}": shape for part, shape in parts.items()} | {
        f"{name}.num_batches_tracked": ()
    }


def layers():
    """(stage, block, channels in, out, inner, squeezed or None) of each residual block."""
    before = 24
    for stage in range(4):
        for block in range(BLOCKS[stage]):
            squeezed = SQUEEZED[stage] if block % 2 == 0 else None
            yield stage, block, before, WIDTHS[stage], INNER[stage], squeezed
            before = WIDTHS[stage]


def pyslowfast():
    shapes = {"s1.pathway0_stem.conv_xy.weight": (24, 3, 1, 3, 3)}
    shapes |= {"s1.pathway0_stem.conv.weight": (24, 1, 5, 1, 1)} | norm("s1.pathway0_stem.bn", 24)
    for stage, block, before, width, inner, squeezed in layers():
        at = f"s{stage + 2}.pathway0_res{block}"
        if block == 0:
            shapes |= {f"{at}.branch1.weight": (width, before, 1, 1, 1)}
            shapes |= norm(f"{at}.branch1_bn", width)
        shapes |= {f"{at}.branch2.a.weight": (inner, before, 1, 1, 1)}
        shapes |= {f"{at}.branch2.b.weight": (inner, 1, 3, 3, 3)}
        shapes |= {f"{at}.branch2.c.weight": (width, inner, 1, 1, 1)}
        for unit, channels in (("a", inner), ("b", inner), ("c", width)):
            shapes |= norm(f"{at}.branch2.{unit}_bn", channels)
        if squeezed:
            for layer, (out, into) in (("fc1", (squeezed, inner)), ("fc2", (inner, squeezed))):
                shapes[f"{at}.branch2.se.{layer}.weight"] = (out, into, 1, 1, 1)
                shapes[f"{at}.branch2.se.{layer}.bias"] = (out,)
    shapes |= {"head.conv_5.weight": (432, 192, 1, 1, 1)} | norm("head.conv_5_bn", 432)
    shapes |= {"head.lin_5.weight": (2048, 432, 1, 1, 1), "head.projection.weight": (400, 2048)}
    return shapes | {"head.projection.bias": (400,)}


def pytorchvideo():
    shapes = {"blocks.0.conv.conv_t.weight": (24, 3, 1, 3, 3)}
    shapes |= {"blocks.0.conv.conv_xy.weight": (24, 1, 5, 1, 1)} | norm("blocks.0.norm", 24)
    for stage, block, before, width, inner, squeezed in layers():
        at = f"blocks.{stage + 1}.res_blocks.{block}"
        if block == 0:
            shapes |= {f"{at}.branch1_conv.weight": (width, before, 1, 1, 1)}
            shapes |= norm(f"{at}.branch1_norm", width) if before != width else {}
        shapes |= {f"{at}.branch2.conv_a.weight": (inner, before, 1, 1, 1)}
        shapes |= {f"{at}.branch2.conv_b.weight": (inner, 1, 3, 3, 3)}
        shapes |= {f"{at}.branch2.conv_c.weight": (width, inner, 1, 1, 1)}
        for unit, channels in (("a", inner), ("b.0", inner), ("c", width)):
            shapes |= norm(f"{at}.branch2.norm_{unit}", channels)
        if squeezed:
            for layer, (out, into) in (("0", (squeezed, inner)), ("2", (inner, squeezed))):
                shapes[f"{at}.branch2.norm_b.1.block.{layer}.weight"] = (out, into, 1, 1, 1)
                shapes[f"{at}.branch2.norm_b.1.block.{layer}.bias"] = (out,)
    shapes |= {"blocks.5.pool.pre_conv.weight": (432, 192, 1, 1, 1)}
    shapes |= norm("blocks.5.pool.pre_norm", 432)
    shapes |= {"blocks.5.pool.post_conv.weight": (2048, 432, 1, 1, 1)}
    return shapes | {"blocks.5.proj.weight": (400, 2048), "blocks.5.proj.bias": (400,)}


@pytest.fixture(scope="module")
def wanted():
    init_default_scope("mmaction")
    head = {"type": "X3DHead", "in_channels": 432, "num_classes": 400, "fc1_bias": False}
    backbone = {"type": "X3D", "gamma_w": 1, "gamma_b": 2.25, "gamma_d": 2.2}
    model = MODELS.build({"type": "Recognizer3D", "backbone": backbone, "cls_head": head})
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("project, number", [(pyslowfast, 568), (pytorchvideo, 563)])
def test_every_tensor_of_another_project_s_x3d_s_has_its_place_and_shape(project, number, wanted):
    state = {name: torch.zeros(shape) for name, shape in project().items()}
    assert len(state) == number
    found = {name: tuple(value.shape) for name, value in mmaction_names(state).items()}
    assert len(found) == number and found.items() <= wanted.items()
    absent = {name.rsplit(".", 1)[0] for name in wanted.keys() - found.keys()}
    assert absent == ({"backbone.layer1.0.downsample.bn"} if project is pytorchvideo else set())


def test_tensors_keep_their_values_and_names_of_no_project_stay():
    state = {
        "head.lin_5.weight": torch.arange(6.0).reshape(2, 3, 1, 1, 1),
        "s3.pathway0_res10.branch2.b_bn.bias": torch.ones(2),
        "backbone.conv5.bn.bias": torch.zeros(3),
        "cls_head.fc_cls.weight": torch.ones(4, 3),
    }
    found = mmaction_names(state)
    assert list(found) == [
        "cls_head.fc1.weight", "backbone.layer2.10.conv2.bn.bias", "backbone.conv5.bn.bias",
        "cls_head.fc_cls.weight",
    ]  # fmt: skip
    assert found["cls_head.fc1.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
