"""Models that others trained on EPIC-KITCHENS-100: a file becomes a model of ours, or one line."""

import functools

import numpy as np
import pytest
import torch
import yaml
from mmaction.registry import MODELS

from epic100.base.disk import digest
from epic100.base.errors import EpicError
from epic100.cli import published_tensors
from epic100.cli.adopt import adopt, adopt_encoder, network_config
from epic100.cli.program import main
from epic100.cli.published_tensors import sort_as_actions
from epic100.model.forward import scores_of_views
from epic100.model.model_file import load_model
from epic100.model.networks import QuickGELU
from epic100.model.published import published
from epic100.model.untrusted import open_untrusted
from epic100.model.views import frames_of_2d
from support.zoo import (
    EVERY,
    as_encoder,
    checkpoint,
    clips,
    official_csvs,
    recorded,
    small,
    weights,
)

pytestmark = pytest.mark.slow


def adopted(name, folder, change=None, **csvs):
    """Adopt a small checkpoint with the official CSVs, or others in their place.

    Returns:
        The model and the lines that are printed about it.
    """
    checkpoint(name, folder / "theirs.pt", change)
    arguments = official_csvs(folder) | csvs
    lines = adopt(name, folder / "theirs.pt", folder / "ours.pth", model=small(name), **arguments)
    return load_model(folder / "ours.pth"), lines


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Adopts the unchanged checkpoint of a model, once for all tests, as `adopted` does."""
    return functools.cache(lambda name: adopted(name, tmp_path_factory.mktemp(name)))


# `avion_b_no_llm` is the network of `avion_b` with other weights.
@pytest.mark.parametrize("name", [name for name in published() if name != "avion_b_no_llm"])
def test_an_adopted_model_scores_as_its_authors_code(name, whole):
    trained, _ = whole(name)
    model, pipeline = open_untrusted(trained, "ours.pth")
    np.random.seed(0)  # TRN draws relations of frames.
    with torch.inference_mode():
        scores = torch.cat(list(scores_of_views(model, [clips(name)], 2, frames_of_2d(pipeline))))
    outputs = scores.split(list(trained.outputs.values()), dim=-1)
    log_probs = [output.log_softmax(dim=-1) for output in outputs]
    if "pair" in trained.outputs:
        pairs = [pair[:2] for pair in trained.pairs]
        log_probs[0] = log_probs[0][:, [pairs.index(pair) for pair in sort_as_actions(pairs)]]
    found, expected = torch.cat(log_probs, dim=1)[:, ::EVERY], recorded(name)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    # The scores of the two clips differ by far more than `atol`.
    assert (expected[0] - expected[1]).abs().max() > 1e-3


# The first has a head over actions, which are the pairs of train and val together. The other has
# heads over verbs and nouns alone, so its pairs are those of train.
@pytest.mark.parametrize("name, pairs", [("lavila_b_vn", 3806), ("tsn_r50", 3500)])
def test_a_model_file_has_pairs_counts_and_origin(name, pairs, whole):
    trained, lines = whole(name)
    found = [pair[:2] for pair in trained.pairs]
    assert found == sorted(found) and len(found) == pairs
    # The train CSV has 3,500 pairs, and 100 of them twice.
    assert sum(count for _, _, count in trained.pairs) == 3600
    assert trained.names["verb"][3] == "verb-3"
    model = published()[name]
    origin = {"source": model.url, "code": model.code, "load_from": model.start, "segments": 3600}
    assert origin.items() <= trained.trained_on.items() and trained.heads == model.heads
    assert trained.trained_on["published"]["action"] == model.action
    assert model.title in lines[0] and model.licence in lines[1] and "epic100 test" in lines[2]


def test_actions_are_sorted_as_texts():
    assert sort_as_actions([(0, 2), (10, 0), (2, 0), (0, 10)]) == [(0, 10), (0, 2), (10, 0), (2, 0)]


def without(part):
    """A change of tensors: those with this text in their names are removed."""
    return lambda tensors: {name: v for name, v in tensors.items() if part not in name}


def renamed(old, new):
    """A change of tensors: a text in their names is replaced."""
    return lambda tensors: {name.replace(old, new): v for name, v in tensors.items()}


def having(name, shape):
    """A change of tensors: one of this name and shape is added, or takes the place of another."""
    return lambda tensors: tensors | weights({name: shape})


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("avion_b", without("fc_cls"), "no classifier 'fc_cls' among its 32 tensors; expected"),
        (
            "lavila_b",
            lambda tensors: having("text_projection", [4, 4])(without("fc_cls")(tensors)),
            "tensors, but parts of a model of videos and texts",
        ),
        ("slowfast_r50", renamed("_verb", ""), "no classifier 'head.projection_verb'"),
        ("avion_b", having("fc_cls.weight", [400, 64]), "classifier has 400 classes, not 3,806"),
        ("tsn_r50", having("model.new_fc.weight", [174, 512]), "has 174 classes, not 397; expect"),
        ("avion_b", without("resblocks.1.ln_2.bias"), "blocks.1.norm2.bias is missing"),
        ("tsm_r50", having("model.extra.weight", [3]), "model.extra.weight is left over"),
        (
            "tsm_r50",
            having("model.base_model.conv1.weight", [64, 10, 7, 7]),
            "is [64, 10, 7, 7], not [64, 3, 7, 7]",
        ),
        ("avion_b", having("visual.conv1.weight", [64, 5]), "patch_embed.projection.weight is [6"),
        ("lavila_b", having("visual.pos_embed", []), "backbone.pos_embed is [], not [1, 17, 64]"),
    ],
)
def test_a_checkpoint_of_another_network_is_rejected(name, change, words, tmp_path):
    with pytest.raises(EpicError) as error:
        adopted(name, tmp_path, change)
    assert "theirs.pt" in str(error.value) and words in str(error.value)
    assert published()[name].url in str(error.value)
    assert not (tmp_path / "ours.pth").exists()


def with_nan(name):
    """A change of tensors: one value of the one with this name is NaN."""

    def change(tensors):
        tensors[name].view(-1)[-1] = float("nan")
        return tensors

    return change


@pytest.mark.parametrize(
    "name, ours",
    [
        pytest.param("fc_cls.weight", "cls_head.fc_cls.weight", id="of the classifier"),
        pytest.param("visual.conv1.weight", "backbone.patch_embed.projection.weight", id="below"),
    ],
)
def test_weights_that_are_no_numbers_are_rejected(name, ours, tmp_path):
    with pytest.raises(EpicError, match=rf"theirs\.pt: {ours} has NaN or infinite weights, .*; "):
        adopted("avion_b", tmp_path, with_nan(name))
    assert not (tmp_path / "ours.pth").exists()


@pytest.mark.parametrize("file", ["missing.pt", "page.pt"])
def test_a_file_of_no_checkpoint_is_rejected(file, tmp_path):
    """What else such a file may be is in tests/attacks/test_files.py."""
    (tmp_path / "page.pt").write_bytes(b"<!DOCTYPE html><html>")
    with pytest.raises(EpicError, match=rf"^.*{file}: .*; expected the file of tsn_r50, http"):
        adopt("tsn_r50", tmp_path / file, tmp_path / "ours.pth", train="a.csv", val="b.csv")


@pytest.mark.parametrize(
    "change, words",
    [
        pytest.param(
            lambda lines: lines[:-1],
            r"val\.csv: 3,805 pairs of verb and noun, but avion_b has",
            id="a pair is missing",
        ),
        pytest.param(
            lambda lines: [lines[0], "97,0,a,b"],
            r"line 2: verb_class is '97'; expected an official",
            id="verb beyond the 97 classes",
        ),
    ],
)
def test_csvs_of_another_version_are_rejected(change, words, tmp_path):
    lines = official_csvs(tmp_path)["val"].read_text().splitlines()
    (tmp_path / "other_val.csv").write_text("\n".join(change(lines)) + "\n")
    with pytest.raises(EpicError, match=words):
        adopted("avion_b", tmp_path, val=tmp_path / "other_val.csv")


def test_another_model_s_file_is_known_by_md5(tmp_path, monkeypatch):
    checkpoint("avion_b", tmp_path / "theirs.pt")
    md5 = digest(tmp_path / "theirs.pt", "md5").value
    other = published()["avion_l"].model_copy(update={"md5": md5[:6]})
    monkeypatch.setattr(published_tensors, "published", lambda: published() | {"avion_l": other})
    with pytest.raises(EpicError, match="is the file of avion_l, by its md5 .*file of avion_b"):
        adopted("avion_b", tmp_path)


@pytest.mark.parametrize(
    "name, words, said, keys",
    [
        ("tsn_r50", (), "epic100 test", {"state_dict", "pairs"}),
        ("lavila_b", ("--encoder", "--frames", "4"), "tensors of the encoder", {"state_dict"}),
    ],
    ids=["model", "encoder"],
)
def test_the_command_writes_a_model_or_encoder(
    name, words, said, keys, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("epic100.cli.adopt.published", lambda: {name: small(name)})
    checkpoint(name, "theirs.pt")
    csvs = {split: str(path) for split, path in official_csvs(tmp_path).items()}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"annotations": csvs}))
    call = ["adopt", name, "theirs.pt", "--out", "ours.pth", "--configfile", "own.yaml", *words]
    assert main(call) == 0
    assert said in capsys.readouterr().out
    assert keys <= torch.load("ours.pth", weights_only=True).keys()


def test_the_command_lists_the_published_models(capsys):
    assert main(["adopt"]) == 0
    screen = capsys.readouterr().out
    assert all(model.url in screen and model.code in screen for model in published().values())
    assert "weights of 1,228 MB" in screen and "an estimated 70 min of an A100" in screen
    assert "avion_l  AVION ViT-L: 73 / 65.4 / 54.4" in screen and "- / - / 35.75" in screen


@pytest.mark.parametrize(
    "words, error",
    [
        ("adopt avion_x file.pt --out o.pth", "did you mean avion_"),
        ("adopt tsn_r50", "expected epic100 adopt tsn_r50 FILE --out"),
        (
            "adopt tsm_r50 file.pt --encoder --out o.pth",
            "only AVION and LaViLa publish encoders",
        ),
    ],
)
def test_a_call_that_cannot_adopt_is_rejected(words, error, capsys):
    assert main(words.split()) == 1
    assert error in capsys.readouterr().err


def adopted_encoder(name, folder, frames=4, change=as_encoder):
    """Adopt a small encoder; return its tensors, and the printed text."""
    checkpoint(name, folder / "theirs.pt", change)
    out = folder / "encoder.pth"
    lines = adopt_encoder(name, folder / "theirs.pt", out, frames, small(name))
    return torch.load(out, weights_only=True)["state_dict"], "\n".join(lines)


def of_flash_attention(tensors):
    """An encoder with the names of AVION's fused layers, and a kernel that is not flat."""
    for old, new in {"in_proj_": "Wqkv.", "c_fc": "fc1", "c_proj": "fc2"}.items():
        tensors = renamed(old, new)(tensors)
    kernel = tensors["visual.conv1.weight"].reshape(-1, 3, 8, 8)
    return as_encoder(tensors | {"visual.conv1.weight": kernel})


@pytest.mark.parametrize(
    "name, change",
    [
        pytest.param("avion_b", as_encoder, id="AVION on Ego4D"),
        pytest.param("avion_b", of_flash_attention, id="AVION with flash_attn"),
        pytest.param("lavila_b", as_encoder, id="LaViLa on Ego4D"),
        pytest.param("lavila_b", dict, id="LaViLa on EPIC-KITCHENS"),
    ],
)
def test_an_encoder_is_the_backbone_of_the_model(name, change, whole, tmp_path):
    tensors, _ = adopted_encoder(name, tmp_path, change=change)
    trained, _ = whole(name)
    backbone = {key: w for key, w in trained.state_dict.items() if key.startswith("backbone.")}
    assert tensors.keys() == backbone.keys()
    assert all(torch.equal(tensors[key], value) for key, value in backbone.items())


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_avion_computes_quick_gelu_if_told(quick_gelu):
    spec = network_config(small("avion_b"))["backbone"] | {"quick_gelu": quick_gelu}
    # The activation follows the first linear layer.
    activations = [block.mlp.layers[0][1] for block in MODELS.build(spec).blocks]
    assert {isinstance(layer, QuickGELU) for layer in activations} == {quick_gelu}


@pytest.mark.parametrize(
    "name, embedding",
    [("avion_b", "visual.temporal_embedding"), ("lavila_b", "visual.temporal_embed")],
)
def test_embeddings_of_the_time_are_interpolated(name, embedding, tmp_path):
    # What is left out may have NaN.
    tensors, text = adopted_encoder(
        name, tmp_path, 7, lambda tensors: with_nan("fc_cls.weight")(as_encoder(tensors))
    )
    published_values = checkpoint(name, tmp_path / "theirs.pt")[embedding].reshape(4, -1)
    # These are the middles of the 7 frames, counted in published frames, of which there are 4.
    middles = ((np.arange(7) + 0.5) * 4 / 7 - 0.5).clip(0, 3)
    expected = [np.interp(middles, range(4), values) for values in published_values.T]
    torch.testing.assert_close(
        tensors["backbone.time_embed"][0].T, torch.tensor(np.array(expected)).float()
    )
    assert "4 frames there, 7 here" in text
    # Parts that are not of the encoder are counted.
    assert "textual (1)" in text and "fc_cls (1)" in text and "logit_scale (1)" in text


@pytest.mark.parametrize(
    "change, words",
    [
        pytest.param(
            with_nan("visual.positional_embedding"),
            r"theirs\.pt: backbone\.pos_embed has NaN or infinite",
            id="NaN in the encoder",
        ),
        pytest.param(
            without("resblocks.1.ln_2.bias"),
            "theirs.pt: not the network of avion_b: .*norm2.bias is ",
            id="a tensor is missing",
        ),
    ],
)
def test_a_defect_of_an_encoder_is_one_error(change, words, tmp_path):
    with pytest.raises(EpicError, match=words):
        adopted_encoder("avion_b", tmp_path, change=lambda tensors: as_encoder(change(tensors)))
    assert not (tmp_path / "encoder.pth").exists()
