"""Models that others trained on EPIC-KITCHENS-100: a file becomes a model of ours, or one line."""

import numpy as np
import pytest
import torch
from mmaction.registry import MODELS

from epic100.base.disk import digest
from epic100.base.errors import EpicError
from epic100.cli.program import main
from epic100.migrate import adopt as adopting
from epic100.migrate.adopt import actions, adopt, adopt_encoder
from epic100.model.encoders import QuickGELU
from epic100.model.foreign import open_foreign
from epic100.model.forward import scores_of_views
from epic100.model.model_file import load_model
from epic100.model.published import published
from epic100.model.views import frames_of_2d
from epic100.model.weights import read_weights
from support.published_weights import (
    EVERY,
    as_encoder,
    checkpoint,
    clips,
    official_csvs,
    recorded,
    small,
    weights,
)

NAMES = [name for name in published() if name != "avion_b_no_llm"]


def taken(name, folder, **more):
    """Adopt a small checkpoint with official CSVs, or `more`; return the model and its lines."""
    csvs = official_csvs(folder) | more
    lines = adopt(name, folder / "theirs.pt", folder / "ours.pth", model=small(name), **csvs)
    return load_model(folder / "ours.pth"), lines


@pytest.mark.parametrize("name", NAMES)
def test_an_adopted_model_gives_the_scores_of_its_authors_code(name, tmp_path):
    checkpoint(name, tmp_path / "theirs.pt")
    trained, _ = taken(name, tmp_path)
    model, pipeline = open_foreign(trained, str(tmp_path / "ours.pth"))
    np.random.seed(0)  # TRN draws relations of frames.
    with torch.inference_mode():
        scores = torch.cat(list(scores_of_views(model, [clips(name)], 2, frames_of_2d(pipeline))))
    parts = [part.log_softmax(-1) for part in scores.split(list(trained.outputs.values()), -1)]
    if "pair" in trained.outputs:
        ours = {pair[:2]: place for place, pair in enumerate(trained.pairs)}
        parts[0] = parts[0][:, [ours[pair] for pair in actions(list(ours))]]
    found, expected = torch.cat(parts, 1)[:, ::EVERY], recorded(name)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["lavila_b_vn", "tsn_r50"])
def test_the_model_file_says_what_it_is_and_has_our_pairs_names_and_counts(name, tmp_path):
    checkpoint(name, tmp_path / "theirs.pt")
    trained, lines = taken(name, tmp_path)
    model = published()[name]
    expected = {"source": model.url, "code": model.code, "load_from": model.start}
    assert expected.items() <= trained.trained_on.items()
    assert trained.trained_on["published"]["action"] == model.action
    members = [pair[:2] for pair in trained.pairs]
    assert members == sorted(members) and trained.names["verb"][3] == "verb-3"
    assert sum(pair[2] for pair in trained.pairs) == 3600
    assert len(members) == (3806 if model.heads == "both" else 3500)
    assert trained.heads == model.heads
    assert model.title in lines[0] and model.licence in lines[1] and "epic100 test" in lines[2]


def test_actions_are_sorted_as_texts():
    assert actions([(0, 2), (10, 0), (2, 0), (0, 10)]) == [(0, 10), (0, 2), (10, 0), (2, 0)]


def without(part):
    return lambda tensors: {name: v for name, v in tensors.items() if part not in name}


def renamed(old, new):
    return lambda tensors: {name.replace(old, new): v for name, v in tensors.items()}


def having(name, shape):
    return lambda tensors: tensors | weights({name: shape})


def texts_alone(tensors):
    return without("fc_cls")(tensors) | weights({"text_projection": [4, 4]})


CONV1 = "model.base_model.conv1.weight"


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("avion_b", without("fc_cls"), "no classifier 'fc_cls' among its 32 tensors; expected"),
        ("lavila_b", texts_alone, "tensors, but parts of a model of videos and texts"),
        ("slowfast_r50", renamed("_verb", ""), "no classifier 'head.projection_verb'"),
        ("avion_b", having("fc_cls.weight", [400, 64]), "classifier has 400 classes, not 3,806"),
        ("tsn_r50", having("model.new_fc.weight", [174, 512]), "has 174 classes, not 397; expect"),
        ("avion_b", without("resblocks.1.ln_2.bias"), "blocks.1.norm2.bias is missing"),
        ("tsm_r50", having("model.extra.weight", [3]), "model.extra.weight is left over"),
        ("tsm_r50", having(CONV1, [64, 10, 7, 7]), "is [64, 10, 7, 7], not [64, 3, 7, 7]"),
        ("avion_b", having("visual.conv1.weight", [64, 5]), "patch_embed.projection.weight is [6"),
        ("lavila_b", having("visual.pos_embed", []), "backbone.pos_embed is [], not [1, 17, 64]"),
    ],
)
def test_another_checkpoint_is_one_line_that_says_what_it_is_and_writes_nothing(
    name, change, words, tmp_path
):
    checkpoint(name, tmp_path / "theirs.pt", change)
    with pytest.raises(EpicError) as error:
        taken(name, tmp_path)
    assert words in str(error.value) and published()[name].url in str(error.value)
    assert "theirs.pt" in str(error.value) and not (tmp_path / "ours.pth").exists()


@pytest.mark.parametrize("content", [None, b"<!DOCTYPE html><html>"])
def test_a_file_that_is_no_checkpoint_is_one_line_with_the_one_that_is_meant(content, tmp_path):
    """What else such a file may be is in tests/attacks/test_tensor_files.py."""
    if content:
        (tmp_path / "theirs.pt").write_bytes(content)
    with pytest.raises(EpicError, match=r"^.*theirs\.pt: .*; expected the file of tsn_r50, http"):
        taken("tsn_r50", tmp_path)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda lines: lines[:-1], r"val\.csv: 3,805 pairs of verb and noun, but avion_b has"),
        (lambda lines: [lines[0], "97,0,a,b"], r"line 2: verb_class is '97'; expected an official"),
    ],
)
def test_csvs_of_another_version_are_one_line(change, words, tmp_path):
    checkpoint("avion_b", tmp_path / "theirs.pt")
    val = tmp_path / "other/val.csv"
    val.parent.mkdir()
    lines = official_csvs(tmp_path)["val"].read_text().splitlines()
    val.write_text("\n".join(change(lines)) + "\n")
    with pytest.raises(EpicError, match=words):
        taken("avion_b", tmp_path, val=val)


def test_the_file_of_another_model_is_known_by_its_md5(tmp_path, monkeypatch):
    checkpoint("avion_b", tmp_path / "theirs.pt")
    md5 = digest(tmp_path / "theirs.pt", "md5").value
    known = published() | {"avion_l": small("avion_l").model_copy(update={"md5": md5[:6]})}
    monkeypatch.setattr(adopting, "published", lambda: known)
    with pytest.raises(
        EpicError, match="this is the file of avion_l, by its md5 .*file of avion_b"
    ):
        taken("avion_b", tmp_path)


def test_the_command_lists_the_models_and_says_what_lacks(capsys):
    assert main(["adopt"]) == 0
    listed = capsys.readouterr().out
    assert all(model.url in listed and model.code in listed for model in published().values())
    assert "weights of 1,228 MB" in listed and "an estimated 70 min of an A100" in listed
    assert "avion_l  AVION ViT-L: 73 / 65.4 / 54.4" in listed and "- / - / 35.75" in listed
    assert main(["adopt", "avion_x", "file.pt", "--out", "o.pth"]) == 1
    assert "did you mean avion_" in capsys.readouterr().err
    assert main(["adopt", "tsn_r50"]) == 1
    assert "expected epic100 adopt tsn_r50 FILE --out" in capsys.readouterr().err


# The tests below take encoders that were learned on Ego4D as start weights.


def encoder(name, folder, frames=4, change=as_encoder):
    """Adopt a small encoder; returns its tensors as a training reads them, and the lines."""
    path, out = folder / "theirs.pt", folder / "encoder.pth"
    checkpoint(name, path, change)
    lines = adopt_encoder(name, path, out, frames, small(name))
    return read_weights(out), "\n".join(lines)


def of_flash_attention(tensors):
    """The names that AVION's fused layers have, and a kernel that is not flat."""
    names = {"in_proj_": "Wqkv.", "c_fc": "fc1", "c_proj": "fc2"}
    for old, new in names.items():
        tensors = renamed(old, new)(tensors)
    kernel = tensors["visual.conv1.weight"]
    return as_encoder(tensors | {"visual.conv1.weight": kernel.reshape(-1, 3, 8, 8)})


@pytest.mark.parametrize(
    "name, change",
    [
        ("avion_b", as_encoder),
        ("avion_b", of_flash_attention),
        ("lavila_b", as_encoder),
        ("lavila_b", dict),
    ],
)
def test_an_encoder_is_that_of_the_whole_model_which_gives_its_authors_scores(
    name, change, tmp_path
):
    tensors, _ = encoder(name, tmp_path, change=change)
    checkpoint(name, tmp_path / "theirs.pt")
    trained, _ = taken(name, tmp_path)
    whole = {key: w for key, w in trained.state_dict.items() if key.startswith("backbone.")}
    assert tensors.keys() == whole.keys()
    assert all(torch.equal(tensors[key], value) for key, value in whole.items())


def test_avion_computes_quick_gelu_where_it_is_asked_for():
    spec = adopting.network(small("avion_b"))["backbone"]
    for asked in (True, False):
        blocks = MODELS.build({**spec, "quick_gelu": asked}).blocks
        assert all(isinstance(block.mlp.layers[0][1], QuickGELU) is asked for block in blocks)


@pytest.mark.parametrize(
    "name, there",
    [
        ("avion_b", "visual.temporal_embedding"),
        ("lavila_b", "visual.temporal_embed"),
    ],
)
def test_the_embeddings_of_the_time_are_interpolated_and_what_is_left_out_is_said(
    name, there, tmp_path
):
    tensors, text = encoder(name, tmp_path, frames=7)
    theirs = checkpoint(name, tmp_path / "theirs.pt")[there].reshape(4, -1)
    # This is the middle of each frame, counted in frames of theirs.
    at = (torch.arange(7) + 0.5) * 4 / 7 - 0.5
    below = at.clamp(0, 3).floor().long()
    share = (at.clamp(0, 3) - below)[:, None]
    expected = theirs[below] * (1 - share) + theirs[(below + 1).clamp(max=3)] * share
    torch.testing.assert_close(tensors["backbone.time_embed"][0], expected, atol=1e-5, rtol=0)
    assert "4 frames there, 7 here" in text
    assert "textual (1)" in text and "fc_cls (1)" in text and "logit_scale (1)" in text


def test_an_encoder_that_is_not_whole_or_not_published_is_one_line(tmp_path, capsys):
    broken = without("resblocks.1.ln_2.bias")
    with pytest.raises(EpicError, match="theirs.pt: not the network of avion_b: .*norm2.bias is "):
        encoder("avion_b", tmp_path, change=lambda tensors: as_encoder(broken(tensors)))
    words = ["adopt", "tsm_r50", str(tmp_path / "theirs.pt"), "--encoder", "--out", "o.pth"]
    assert main(words) == 1
    assert "only AVION and LaViLa publish encoders" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pt"]
