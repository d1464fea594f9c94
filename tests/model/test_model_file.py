"""Model files: written, read back, and rejected if they hold no complete model."""

import dataclasses
import inspect

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.model.forward import open_model
from epic100.model.model_file import FORMAT, TrainedModel, load_model, save_model
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


def test_a_saved_model_is_loaded_the_same(tmp_path):
    names = {"verb": {0: "take", 9: "pour"}, "noun": {1: "spoon"}}
    saved = small_model(heads="both", names=names)
    save_model(saved, tmp_path / "model.pth")
    loaded = load_model(tmp_path / "model.pth")
    assert loaded.state_dict.keys() == saved.state_dict.keys()
    assert all(map(torch.equal, loaded.state_dict.values(), saved.state_dict.values()))
    assert dataclasses.replace(loaded, state_dict={}) == dataclasses.replace(saved, state_dict={})
    assert loaded.outputs == {"pair": 3, "verb": 97, "noun": 300}
    assert small_model().outputs == {"pair": 3}


NO_MODEL = r"not a model that this workflow wrote .*train again or restore the file"
NOT_OURS = r"a checkpoint, but not a finished model of this version .*results/work_dirs.*again"


FIELDS = [field.name for field in dataclasses.fields(TrainedModel)]


@pytest.mark.parametrize(
    "content, words",
    [
        pytest.param(None, "no such file; expected results/model.pth of the rule", id="missing"),
        pytest.param(b"a model of mine\n", NO_MODEL, id="text"),
        pytest.param(
            saved({"state_dict": {"fc.weight": torch.zeros(3, 4)}, "meta": {"epoch": 3}}),
            NOT_OURS,
            id="checkpoint of MMEngine",
        ),
        pytest.param(saved([1, 2]), NOT_OURS, id="list"),
        pytest.param(
            saved({"format": FORMAT}),
            rf"a model without {', '.join(FIELDS)}; expected results/model\.pth .*train again",
            id="no fields",
        ),
        pytest.param(
            saved({"format": FORMAT, **vars(small_model(heads="triplet"))}),
            "its heads is 'triplet': .*; expected what the rule train writes",
            id="field with a wrong value",
        ),
    ],
)
def test_a_file_that_is_no_model_is_rejected(tmp_path, content, words):
    path = tmp_path / "model.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EpicError, match=rf"model\.pth: {words}") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


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
def test_a_wrong_field_is_not_saved(tmp_path, change, words):
    with pytest.raises(EpicError, match=rf"model\.pth: {words}"):
        save_model(small_model(**change), tmp_path / "model.pth")


def test_a_foreign_channels_last_model_predicts(model):
    """With them it is 1.4 times faster (docs/evidence/gpu.md)."""
    trained = load_model(model)
    # A model that was trained here has a class that lays out its weights itself.
    trained.config["model"]["type"] = "Recognizer3D"
    compute, _ = open_model(trained, str(model), "cpu", max_batch_size=1)
    opened = inspect.getclosurevars(compute).nonlocals["model"]
    weights = [weight for weight in opened.backbone.parameters() if weight.dim() == 5]
    assert weights
    assert all(w.is_contiguous(memory_format=torch.channels_last_3d) for w in weights)
