"""Encoders of Hugging Face as backbones: their tokens, what is frozen, saved and rejected."""

import shutil
import sys

import pytest
import torch

import epic100.mmaction  # noqa: F401  (registers backbone and necks)
from epic100.base.errors import EpicError
from epic100.model.hugging_face import backbone_config
from epic100.model.hugging_face_folder import HuggingFaceFolder, license_of, pixels
from epic100.model.mmaction_import import build
from support.hugging_face import ENCODER_TYPES, SIZE, WIDTH, make_encoder

pytestmark = pytest.mark.slow


def clips_for(folder):
    """Make random clips for the encoder of a folder, uint8 [2, 3, T, H, W]."""
    frames = HuggingFaceFolder(folder).clip_len
    return torch.randint(0, 255, (2, 3, frames, SIZE, SIZE), generator=torch.Generator()).byte()


def recognizer(folder, neck="AttentivePooling", **changes):
    """Build a recognizer on the encoder of a folder, as the recipes do."""
    spec = backbone_config(folder, frozen=True) | changes
    pooling = {"channels": WIDTH, "heads": 4} if neck == "AttentivePooling" else {}
    head = {"type": "TimeSformerHead", "num_classes": 5, "in_channels": WIDTH}
    return build(
        {
            "type": "Recognizer3D",
            "backbone": {"type": "HuggingFaceBackbone", **spec},
            "neck": {"type": neck, **pooling},
            "cls_head": head | {"average_clips": None},
            "data_preprocessor": {"type": "ActionDataPreprocessor", "format_shape": "NCTHW"},
        }
    )


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("encoder_type", ENCODER_TYPES)
def test_scores_are_those_of_transformers_own_forward_pass(folders, encoder_type, frozen):
    model = recognizer(folders[encoder_type], neck="MeanOfTokens", frozen=frozen)
    model.init_weights()
    model.eval()
    clips = clips_for(folders[encoder_type])
    with torch.no_grad():
        batch = {"inputs": list(clips[:, None]), "data_samples": None}
        inputs = model.data_preprocessor(batch, False)["inputs"]
        scores = model(inputs, mode="tensor", stage="head")
        processor, encoder = HuggingFaceFolder(folders[encoder_type]).open()
        tokens = encoder(**pixels(processor, clips)).last_hidden_state
        # The tokens of the frames of a clip are those of eight images.
        mean = tokens.reshape(2, -1, WIDTH).mean(dim=1)
        expected = model.cls_head.fc_cls(mean)
    assert scores.shape == (2, 5) and scores.std() > 1e-3
    assert torch.allclose(scores, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("encoder_type", ENCODER_TYPES)
def test_a_frozen_encoder_is_not_saved(folders, encoder_type):
    model = recognizer(folders[encoder_type])
    model.train()
    names = {name for name, _ in model.named_parameters()} | model.state_dict().keys()
    assert {name for name in names if name.startswith("backbone.")} == {"backbone.digest"}
    tokens = model.backbone(clips_for(folders[encoder_type]).float())
    assert not tokens.requires_grad and not model.backbone.unsaved[0].training
    pooled, losses = model.neck(tokens)
    assert pooled.shape == (2, WIDTH) and losses == {}
    pooled.sum().backward()
    assert all(parameter.grad is not None for parameter in model.neck.parameters())
    # The encoder moves with its model.
    encoder = model.to("meta").backbone.unsaved[0]
    assert {value.device.type for value in encoder.parameters()} == {"meta"}


@pytest.mark.parametrize("encoder_type", ENCODER_TYPES)
def test_a_fine_tuned_encoder_learns_and_is_saved(folders, tmp_path, encoder_type):
    folder = shutil.copytree(folders[encoder_type], tmp_path / "encoder")
    model = recognizer(folder, frozen=False)
    model.init_weights()
    clips = clips_for(folder).float()
    model.neck(model.backbone(clips))[0].sum().backward()
    trained = [p.grad is not None for p in model.backbone.parameters()]
    # A last norm that only a pooled output needs gets no gradient, nor does the token of a mask.
    assert sum(trained) >= len(trained) - 3
    saved = model.state_dict()
    assert any(name.startswith("backbone.encoder.") for name in saved)
    assert not any("pooler" in name or "predictor" in name for name in saved)
    # Built again from the saved weights, it needs no folder.
    shutil.rmtree(folder)
    spec = {key: getattr(model.backbone, key) for key in ("fingerprint", "channels")}
    spec = (
        backbone_config(folders[encoder_type], frozen=False)
        | spec
        | {"encoder_folder": str(folder)}
    )
    again = build({"type": "HuggingFaceBackbone", **spec}).eval()
    again.load_state_dict(model.backbone.state_dict())
    with torch.no_grad():
        assert torch.equal(again(clips), model.backbone.eval()(clips))


def test_another_folder_is_rejected_in_one_line(folders, tmp_path):
    spec = backbone_config(folders["vjepa2"], frozen=True)
    other = make_encoder(tmp_path / "other", "vjepa2", seed=1)
    for folder in (other, tmp_path / "gone"):
        with pytest.raises(EpicError, match="moved or changed") as caught:
            recognizer(folders["vjepa2"], encoder_folder=str(folder))
        assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)
    # The digest of a checkpoint is compared, too.
    state = recognizer(other, **backbone_config(other, frozen=True)).state_dict()
    with pytest.raises(EpicError, match="moved or changed"):
        recognizer(folders["vjepa2"], **spec).load_state_dict(state)


@pytest.mark.parametrize("blocks", [0, 3])
def test_attentive_pooling_tells_the_order_of_tokens(blocks):
    pooling = build({"type": "AttentivePooling", "channels": 48, "blocks": blocks})
    tokens = torch.randn(2, 7, 48, generator=torch.Generator().manual_seed(0))
    (forward, _), (backward, _) = pooling(tokens), pooling(tokens.flip(1))
    assert forward.shape == (2, 48) and not torch.allclose(forward, backward, atol=1e-6)
    # A clip's features do not depend on other clips of the batch.
    torch.testing.assert_close(pooling(tokens[1:])[0], forward[1:])


def test_without_transformers_the_extra_is_named(folders, monkeypatch):
    # With None here, an import fails as if the package were not installed.
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EpicError, match=r"not installed; install the extra: .*epic100\[hf\]"):
        HuggingFaceFolder(folders["videomae"]).open()


# A regular expression once took minutes to search such a head.
LONG_HEAD = "---\n" + 200_000 * "x: y\n"


@pytest.mark.parametrize(
    "card, license",
    [
        pytest.param("---\nlicense: apache-2.0\n---\n", "apache-2.0", id="stated"),
        pytest.param(LONG_HEAD + "license: mit\n---\n", "mit", id="long head"),
        pytest.param(LONG_HEAD + "license: mit\n", None, id="head without an end"),
        pytest.param("license: mit\n", None, id="no head"),
        pytest.param("---\nlicense: <script>alert(1)</script>\n---\n", None, id="markup"),
    ],
)
def test_the_card_s_head_gives_the_license(tmp_path, card, license):
    (tmp_path / "README.md").write_text(card)
    assert license_of(tmp_path) == (license or "not stated in its README.md")
