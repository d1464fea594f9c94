"""AVION's and LaViLa's encoders: what they compute, and what a checkpoint of another kind is."""

import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS

from epic100.base.errors import EpicError
from epic100.cli.program import main
from epic100.migrate.encoder import KINDS, convert_encoder
from epic100.model.weights import read_weights
from support.ego4d import DEPTH, HEADS, PATCH, SIDE, WIDTH, checkpoint, features


def quick_gelu(x):
    return x / (1 + torch.exp(-1.702 * x))


def clips(frames):
    return torch.randn(2, 3, frames, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def loaded(kind, path, frames, **more):
    """The encoder as a training builds it, with the weights as a training reads them."""
    built = MODELS.build({
        "type": KINDS[kind], "num_frames": frames, "img_size": SIDE, "patch_size": PATCH,
        "embed_dims": WIDTH, "depth": DEPTH, "num_heads": HEADS, "drop_path_rate": 0.1, **more,
    })  # fmt: skip
    weights = read_weights(path)
    built.load_state_dict({name.removeprefix("backbone."): w for name, w in weights.items()})
    return built.eval()


@pytest.mark.parametrize("kind, fast, more, act", [
    ("avion", True, {}, F.gelu), ("avion", False, {}, F.gelu),
    ("avion", True, {"quick_gelu": True}, quick_gelu), ("lavila", True, {}, quick_gelu),
])  # fmt: skip
def test_an_encoder_computes_what_the_papers_say(kind, fast, more, act, tmp_path):
    weights = checkpoint(kind, tmp_path / "theirs.pt", fast=fast)
    convert_encoder(kind, tmp_path / "theirs.pt", tmp_path / "ours.pth", frames=4)
    with torch.inference_mode():
        found = loaded(kind, tmp_path / "ours.pth", 4, **more)(clips(4))
    expected = features(kind, weights, clips(4), act)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert expected.std() > 0.1 and not torch.allclose(expected, expected.flip(0), atol=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_the_embeddings_of_the_time_are_interpolated_and_what_is_left_out_is_said(
    kind, tmp_path, capsys
):
    weights = checkpoint(kind, tmp_path / "theirs.pt")
    words = ["convert", kind, str(tmp_path / "theirs.pt"), str(tmp_path / "ours.pth")]
    assert main([*words, "--frames", "7"]) == 0
    found = loaded(kind, tmp_path / "ours.pth", 7)
    theirs = list(weights.values())[2].reshape(4, WIDTH)
    at = (torch.arange(7) + 0.5) * 4 / 7 - 0.5  # each frame's middle, in frames of theirs
    below = at.clamp(0, 3).floor().long()
    share = (at.clamp(0, 3) - below)[:, None]
    expected = theirs[below] * (1 - share) + theirs[(below + 1).clamp(max=3)] * share
    torch.testing.assert_close(found.time_embed[0], expected, atol=1e-5, rtol=0)
    assert found(clips(7)).shape == (2, WIDTH)
    text = capsys.readouterr().out
    assert "4 frames there, 7 here" in text and "2 layers of 24 channels" in text
    assert "textual (1)" in text and "fc_cls (1)" in text and "logit_scale (1)" in text


def without(name):
    def change(content):
        return {"state_dict": {k: v for k, v in content["state_dict"].items() if name not in k}}

    return change


def with_tensor(name, *shape):
    return lambda content: {"state_dict": content["state_dict"] | {name: torch.zeros(shape)}}


@pytest.mark.parametrize("change, words", [
    (without("resblocks.1.ln_2.bias"), "no blocks.1.norm2.bias; expected a checkpoint of AVION"),
    (without("visual"), "no visual.positional_embedding among its 3 tensors, so no encoder"),
    (without("conv1"), "the sizes of its tensors are no encoder's"),
    (with_tensor("module.visual.adapter.weight", 3), "adapter.weight besides"),
    (with_tensor("module.visual.conv1.weight", 2 * WIDTH, 3, PATCH, PATCH),
     "no encoder's (24 channels, [48, 3, 1, 8, 8], [72, 24])"),
    (with_tensor("module.visual.ln_post.bias", 5), "norm.bias is [5], not [24]"),
    (with_tensor("module.visual.positional_embedding"), "the sizes of its tensors"),
    (with_tensor("module.visual.temporal_embedding", 0, WIDTH), "the sizes of its tensors"),
])  # fmt: skip
def test_another_checkpoint_is_one_error_and_writes_nothing(change, words, tmp_path):
    checkpoint("avion", tmp_path / "theirs.pt", change=change)
    with pytest.raises(EpicError) as error:
        convert_encoder("avion", tmp_path / "theirs.pt", tmp_path / "ours.pth")
    assert words in str(error.value) and "theirs.pt" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pt"]
