import dataclasses

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.model.model_file import TrainedModel, load_model, save_model

HEAD_WEIGHT = "cls_head.fc2.weight"
PAIRS = [(0, 1, 12), (0, 5, 3), (9, 7, 20)]


def model(**changes):
    generator = torch.Generator().manual_seed(0)
    weights = {
        "backbone.conv.weight": torch.randn(4, 3, 5, generator=generator),
        "backbone.bn.num_batches_tracked": torch.tensor(7),
        HEAD_WEIGHT: torch.randn(len(PAIRS), 400, generator=generator),
    }
    whole = TrainedModel(
        weights,
        PAIRS,
        97,
        300,
        {"model": {"type": "Recognizer3D", "topk": (1, 5)}},
        {"split": "train", "segments": 35, "seed": 0, "load_from": None},
    )
    return dataclasses.replace(whole, **changes)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.pth"
    save_model(model(), path)
    return path


def refused(path, words):
    with pytest.raises(EpicError, match=rf"{path.name}: {words}") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


NAMES = {"verb": {0: "take", 9: "pour"}, "noun": {1: "spoon"}}


@pytest.mark.parametrize("more", [{}, {"heads": "both", "names": NAMES}])
def test_what_was_saved_is_loaded_weights_and_words(path, more):
    saved = model(**more)
    save_model(saved, path)
    loaded = load_model(path)
    assert loaded.state_dict.keys() == saved.state_dict.keys()
    for name, weight in saved.state_dict.items():
        torch.testing.assert_close(loaded.state_dict[name], weight, rtol=0, atol=0)
    rest = [f.name for f in dataclasses.fields(TrainedModel) if f.name != "state_dict"]
    assert all(getattr(loaded, name) == getattr(saved, name) for name in rest)
    assert loaded.outputs == {"pair": 3, **({"verb": 97, "noun": 300} if more else {})}


NO_MODEL = r"not a model that this workflow wrote .*train again or restore the file"
NOT_OURS = r"a checkpoint, but not a finished model of this version .*results/work_dirs.*again"


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "no such file; expected results/model.pth of the rule train"),
        (b"a model of mine\n", NO_MODEL),
        ({"state_dict": {HEAD_WEIGHT: torch.zeros(3, 4)}, "meta": {"epoch": 3}}, NOT_OURS),
        ({"format": "epic100 model 7"}, NOT_OURS),
        ([1, 2], NOT_OURS),
    ],
)
def test_a_file_that_is_no_model_is_one_error_with_what_to_do(path, content, words):
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    refused(path, words)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(TrainedModel)])
def test_a_model_that_lacks_a_part_is_refused_by_its_name(path, field):
    content = torch.load(path, weights_only=True)
    del content[field]
    torch.save(content, path)
    refused(path, rf"a model without {field}; expected results/model\.pth .*train again")


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
)
def test_a_part_of_another_form_is_one_error_where_it_is_saved_and_loaded(path, change, words):
    content = torch.load(path, weights_only=True)
    torch.save(content | change, path)
    refused(path, words)
    with pytest.raises(EpicError, match=words):
        save_model(model(**change), path)
