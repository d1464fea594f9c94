"""Model files: written, read back, and refused if they hold no complete model."""

import dataclasses
import inspect

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.model.forward import open_model
from epic100.model.model_file import TrainedModel, load_model, save_model
from support.crafted import saved


def small_model(**changes):
    generator = torch.Generator().manual_seed(0)
    pairs = [(0, 1, 12), (0, 5, 3), (9, 7, 20)]
    model = TrainedModel(
        state_dict={
            "backbone.conv.weight": torch.randn(4, 3, 5, generator=generator),
            "backbone.bn.num_batches_tracked": torch.tensor(7),
            "cls_head.fc2.weight": torch.randn(len(pairs), 400, generator=generator),
        },
        pairs=pairs,
        num_verbs=97,
        num_nouns=300,
        config={"model": {"type": "Recognizer3D", "topk": (1, 5)}},
        trained_on={"split": "train", "segments": 35, "seed": 0, "load_from": None},
    )
    return dataclasses.replace(model, **changes)


@pytest.fixture
def path(tmp_path):
    """A model file that was written by `save_model`."""
    path = tmp_path / "model.pth"
    save_model(small_model(), path)
    return path


def check_refused(path, words):
    with pytest.raises(EpicError, match=rf"{path.name}: {words}") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


NAMES = {"verb": {0: "take", 9: "pour"}, "noun": {1: "spoon"}}


@pytest.mark.parametrize(
    "options, outputs",
    [
        pytest.param({}, {"pair": 3}, id="pairs"),
        pytest.param(
            {"heads": "both", "names": NAMES},
            {"pair": 3, "verb": 97, "noun": 300},
            id="pairs, verbs and nouns",
        ),
    ],
)
def test_a_saved_model_is_loaded_the_same(path, options, outputs):
    saved = small_model(**options)
    save_model(saved, path)
    loaded = load_model(path)
    assert loaded.state_dict.keys() == saved.state_dict.keys()
    assert all(map(torch.equal, loaded.state_dict.values(), saved.state_dict.values()))
    assert dataclasses.replace(loaded, state_dict={}) == dataclasses.replace(saved, state_dict={})
    assert loaded.outputs == outputs


NO_MODEL = r"not a model that this workflow wrote .*train again or restore the file"
NOT_OURS = r"a checkpoint, but not a finished model of this version .*results/work_dirs.*again"


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "no such file; expected results/model.pth of the rule train"),
        (b"a model of mine\n", NO_MODEL),
        (saved({"state_dict": {"fc.weight": torch.zeros(3, 4)}, "meta": {"epoch": 3}}), NOT_OURS),
        (saved({"format": "epic100 model 7"}), NOT_OURS),
        (saved([1, 2]), NOT_OURS),
    ],
    ids=["missing", "text", "checkpoint of MMEngine", "later format", "list"],
)
def test_a_file_that_is_no_model_is_refused_with_what_to_do(path, content, words):
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    check_refused(path, words)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(TrainedModel)])
def test_the_error_about_a_missing_field_names_it(path, field):
    content = torch.load(path, weights_only=True)
    del content[field]
    torch.save(content, path)
    check_refused(path, rf"a model without {field}; expected results/model\.pth .*train again")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"heads": "triplet"}, r"its heads is 'triplet': .*verb_noun.*; expected what the rule"),
        ({"names": [1]}, r"its names is \[1\]: .*dictionary"),
        ({"names": {"action": {0: "take"}}}, "its names.action.* is 'action': .*noun"),
        ({"names": {"verb": {"0": "take"}}}, r"its names.verb.0.\[key\] is '0': .*integer"),
        ({"names": {"noun": {0: "a" * 201}}}, "its names.noun.0 is 'a+[.]+a+': .* at most 200 "),
        (
            {"pairs": [(0, 1, 5), (97, 0, 1)]},
            "its pair 1 is verb 97, noun 0; expected verbs up to 96",
        ),
        ({"config": {"work_dir": torch.zeros(2)}}, "its config: .*expected texts, numbers, lists"),
    ],
    ids=["heads", "names", "task of names", "id of a name", "long name", "pair", "config"],
)
def test_a_field_with_a_wrong_value_is_neither_loaded_nor_saved(path, change, words):
    content = torch.load(path, weights_only=True)
    torch.save(content | change, path)
    check_refused(path, words)
    with pytest.raises(EpicError, match=words):
        save_model(small_model(**change), path)


def test_a_model_made_elsewhere_predicts_on_a_cpu_with_channels_last_weights(model):
    """With them it is 1.4 times faster (docs/evidence/gpu.md)."""
    trained = load_model(model)
    # A model that was trained here has a class that lays out its weights itself.
    trained.config["model"]["type"] = "Recognizer3D"
    compute, _ = open_model(trained, str(model), "cpu", max_batch_size=1)
    opened = inspect.getclosurevars(compute).nonlocals["model"]
    weights = [weight for weight in opened.backbone.parameters() if weight.dim() == 5]
    assert weights
    assert all(w.is_contiguous(memory_format=torch.channels_last_3d) for w in weights)
