"""Model files and checkpoints that would run code, open files or take the machine when used.

Each attack is a file of plain data: no pickle of it does anything when it is loaded. The models of
MMAction2's own zoo still pass.
"""

import itertools
import pickle
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import mmaction
import pytest
import torch
from mmaction.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import Compose

import epic100.clips.dataset
import epic100.model.registered
from epic100.base.errors import EpicError
from epic100.cli.lab_checkpoint import migrate_model
from epic100.model.model_file import TrainedModel, load_model, save_model
from epic100.model.untrusted import (
    build_untrusted,
    clean_dataset,
    clean_model,
    clean_pipeline,
    parse_config,
)
from epic100.model.untrusted_steps import STEPS
from epic100.model.views import view_pipeline
from epic100.pages.report import LOADING
from epic100.prediction.encoder import source_of_model
from epic100.prediction.shards import PredictionJob, WorkItem
from epic100.prediction.worker import predict_items
from epic100.settings.prediction import PredictSettings
from support.crafted import Unpickled
from support.models import MODEL, STEP_LIST, small_weights
from support.this_process import measured
from support.tricky_videos import encode

PAIRS = [(0, 1, 5), (2, 3, 4)]
SHELL = {"type": "os.system", "command": "touch ran"}
ABOUT = {"split": "train", "segments": 9, "epochs": 1, "seed": 0, "load_from": None}


def config_with(model=MODEL, steps=STEP_LIST, **more) -> dict:
    """Return the config of a model file, with some of it replaced."""
    loader = {"dataset": {"type": "EpicSegmentVideoDataset", "pipeline": steps}}
    return {"model": model, "test_dataloader": loader, "default_scope": "mmaction"} | more


def changed(key: str, value, model=MODEL) -> dict:
    """Return the model with another value at a dotted key, such as `backbone.type`."""
    first, _, rest = key.partition(".")
    return {**model, first: changed(rest, value, model[first]) if rest else value}


def build(model) -> None:
    """Build the model of a file that has small weights."""
    build_untrusted(clean_model(model, "model.pth"), small_weights(), "its config", "model.pth")


def save_with(config: dict) -> None:
    """Write `model.pth` with this config."""
    save_model(TrainedModel(small_weights(), PAIRS, 97, 300, config, ABOUT), "model.pth")


def predict_with(config: dict) -> None:
    """Do what the rule predict does with a model file that has this config."""
    save_with(config)
    source = source_of_model("model.pth", load_model("model.pth"))
    items = [WorkItem("P01_01", "fingerprint", [0])]
    predict_items(
        PredictionJob(source, "val.txt", "val.pt", ".", ".", PredictSettings(), items), "val"
    )


def migrate_with(config: dict) -> None:
    """Do what `epic100 migrate model` does with a checkpoint that has the text of this config."""
    text = "".join(f"{name} = {value!r}\n" for name, value in config.items())
    torch.save({"state_dict": small_weights(), "meta": {"cfg": text}}, "lab.pth")
    migrate_model("lab.pth", "out.pth", [pair[:2] for pair in PAIRS], counts=Counter())


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder. It has a module that may not be imported, and no attack leaves `ran`."""
    monkeypatch.chdir(tmp_path)
    Path("planted.py").write_text("open('ran', 'w')\n")
    yield tmp_path
    assert not Path("ran").exists(), "the file ran code"


@pytest.mark.parametrize("use", [predict_with, migrate_with])
@pytest.mark.parametrize(
    "config",
    [
        config_with(model=SHELL),
        config_with(model=changed("backbone", SHELL)),
        config_with(model=changed("backbone.norm_cfg", SHELL)),
        config_with(model=changed("cls_head.loss_cls", [SHELL])),
        config_with(model=changed("data_preprocessor", {"type": "builtins.exec", "object": "1"})),
        config_with(model=changed("cls_head.type", "mmengine.fileio.load")),
        config_with(
            model=changed("cls_head", {"type": "EpicHead", "head": {}, "pairs": "/etc/passwd"})
        ),
        config_with(model=changed("backbone", SHELL | {"_scope_": "os", "type": "system"})),
        config_with(model=changed("backbone._scope_", "planted")),
        config_with(model=changed("backbone.type", "planted.Backbone")),
        config_with(model=changed("backbone.type", "torchvision.resnet50")),
        config_with(model=changed("backbone.type", "timm.resnet50")),
        config_with(model=changed("backbone.type", ["X3D"])),
        config_with(model=changed("backbone.type", {"type": "X3D"})),
        config_with(model=changed("backbone.type", None)),
        config_with(model=changed("type", "Linear")),
        config_with(model=changed("type", "CLIPSimilarity")),
        config_with(model=changed("type", "VindLUVQA")),
        config_with(model=[MODEL]),
        config_with(model="Recognizer3D"),
        config_with(steps=[*STEP_LIST[:3], SHELL, *STEP_LIST[3:]]),
        config_with(steps=[*STEP_LIST[:-1], SHELL]),
        config_with(steps="os.system"),
        config_with(steps=[["OpenSegment"]]),
        config_with(steps=[{"type": "LoadRGBFromFile"}]),
    ],
    ids=range(25),
)
def test_code_in_a_model_never_runs(use, config):
    with pytest.raises(
        EpicError, match=r"(model|lab)\.pth.*(expected|none of those|no list|running it)"
    ):
        use(config)


@pytest.mark.parametrize(
    "key, value",
    [
        ("backbone.pretrained", "evil.pkl"),
        ("backbone.init_cfg", {"type": "Pretrained", "checkpoint": "evil.pkl"}),
        ("cls_head.init_cfg", [{"type": "os.system", "command": "touch ran"}]),
        ("cls_head.loss_cls", {"type": "CrossEntropyLoss", "class_weight": "/etc/passwd"}),
        ("data_preprocessor.mean", "http://127.0.0.1:1/x"),
        ("backbone.pretrained", "http://127.0.0.1:1/x.pth"),
        ("init_cfg", "torchvision://resnet50"),
    ],
)
def test_what_names_a_file_is_left_out(key, value):
    cleaned = clean_model(changed(key, value), "model.pth")
    assert len(cleaned.dropped) == 1 and key in cleaned.dropped[0]
    for forbidden in ("evil", "passwd", "127.0.0.1", "torchvision", "os.system"):
        assert forbidden not in str(cleaned.spec)


PLANTED = config_with(custom_imports={"imports": ["planted"], "allow_failed_imports": False})
DATASET = config_with(
    test_dataloader={
        "dataset": {"type": "PoseDataset", "ann_file": "evil.pkl", "pipeline": STEP_LIST}
    }
)
HEAD = {"type": "UniFormerHead", "num_classes": 2, "in_channels": 4, "channel_map": "evil.pkl"}


@pytest.mark.parametrize(
    "config, words",
    [
        # It is used until the segment list is missing.
        (PLANTED, "val.txt: no such segment list"),
        (DATASET, "is a PoseDataset; expected a subclass of EpicSegmentVideoDataset"),
        (config_with(model=changed("cls_head", HEAD)), "does not fit the model of its config"),
    ],
)
def test_files_named_beside_a_model_are_not_loaded(config, words, monkeypatch, folder):
    Path("evil.pkl").write_bytes(pickle.dumps(Unpickled(eval, "open('ran', 'w')")))
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(EpicError, match=words):
        predict_with(config)


def test_a_migrated_model_names_no_modules_to_import(monkeypatch, folder):
    monkeypatch.syspath_prepend(str(folder))
    migrate_with(PLANTED)
    assert "planted" not in str(load_model("out.pth").config)


@pytest.mark.parametrize(
    "key, value",
    [
        ("cls_head.num_classes", 10**9),
        ("cls_head.in_channels", 10**5),
        ("backbone.gamma_d", 1e9),
        ("backbone.gamma_w", 9e4),
        ("backbone.gamma_b", 99999),
        ("backbone.gamma_w", 16**5000),
        ("backbone.gamma_d", float("nan")),
        ("backbone.gamma_d", float("inf")),
        (
            "backbone",
            {"type": "SwinTransformer3D", "arch": "tiny", "window_size": (9_999, 99, 99)},
        ),
        ("backbone", {"type": "STGCN", "graph_cfg": {"layout": "coco", "max_hop": 99_999}}),
    ],
    ids=range(10),
)
def test_a_model_of_impossible_size_is_one_error(key, value):
    error, grown_kib, _ = measured(build, changed(key, value))
    assert isinstance(error, EpicError)
    assert re.search("at most|larger|cannot be built|does not fit", str(error))
    # The limit is 1 GiB.
    assert grown_kib < 2**20


@pytest.mark.parametrize(
    "steps",
    [
        [{"type": "Resize", "scale": (10**6, 10**6)}],
        [{"type": "SampleFrames", "clip_len": 10**7}],
        [{"type": "DecodeSegment", "short_side": 65536}],
        [{"type": "CenterCrop", "crop_size": float("inf")}],
        [{"type": "Resize", "scale": [[[[1]]] * 9] * 9000}],
        [{"type": "SampleFrames", "clip_len": 4096}, {"type": "Resize", "scale": (-1, 4096)}],
        [
            {"type": "UniformSample", "clip_len": 64, "num_clips": 64},
            {"type": "DecodeSegment", "size": 4096},
        ],
    ],
    ids=range(7),
)
def test_steps_that_ask_for_gigabytes_are_rejected(steps):
    with pytest.raises(EpicError, match=r"model\.pth: .*(at most|expected)"):
        clean_pipeline(steps, "model.pth")


ODD_VALUES = [
    *(None, True, False, 0, -1, 3.5, float("nan"), 10**5, "x", "", b"x"),
    *([], {}, [1], [[1]], {"a": 1}, [-1, -1], (0, 0), ["a", "b"], (None, None), [0.5, "x"]),
]
PIPELINE = [
    {"type": "OpenSegment"},
    {"type": "SampleFrames", "clip_len": 2},
    {"type": "DecodeSegment", "short_side": 48},
    {"type": "FormatShape", "input_format": "NCTHW"},
    {"type": "PackActionInputs"},
]


class Place(NamedTuple):
    """The place of a step in `PIPELINE`, and the arguments that it needs.

    A step that replaces none stands before the step at its position.
    """

    position: int
    replaces: bool
    arguments: dict


PLACES = {
    "OpenSegment": Place(0, True, {}),
    "SampleFrames": Place(1, True, {"clip_len": 2}),
    "DecodeSegment": Place(2, True, {"short_side": 48}),
    "FormatShape": Place(3, True, {"input_format": "NCTHW"}),
    "PackActionInputs": Place(4, True, {}),
    "UniformSample": Place(1, True, {"clip_len": 2}),
    "PublishedFrames": Place(1, True, {"rule": "avion", "clip_len": 2}),
    "Resize": Place(3, False, {"scale": (48, 48)}),
    "CenterCrop": Place(3, False, {"crop_size": 32}),
    "ThreeCrop": Place(3, False, {"crop_size": 48}),
    "TenCrop": Place(3, False, {"crop_size": 32}),
    "Flip": Place(3, False, {}),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_argument_of_wrong_type_is_rejected(name, folder):
    video = str(encode(folder / "v.MP4", 30))
    clip = {"filename": video, "start_index": 0, "total_frames": 30, "label": 0, "modality": "RGB"}
    place = PLACES[name]
    before = PIPELINE[: place.position]
    after = PIPELINE[place.position + place.replaces :]
    for argument, odd in itertools.product([*STEPS[name], "another"], ODD_VALUES):
        step = {"type": name, **place.arguments, argument: odd}
        try:
            steps = clean_pipeline([*before, step, *after], "model.pth")
        except EpicError as error:
            assert str(error).startswith("model.pth: ") and "\n" not in str(error)
        else:
            decoded = Compose(view_pipeline(steps, 1, 1))(clip.copy())
            assert decoded["inputs"].ndim in (4, 5), step


@pytest.mark.parametrize("config", [config_with(model=SHELL), config_with(steps=[SHELL])])
def test_the_loader_of_the_model_card_runs_nothing(config):
    save_with(config)
    with pytest.raises(EpicError, match=r"model\.pth: .*which is not registered"):
        exec(LOADING.format(path="model.pth"), {})


@pytest.mark.parametrize(
    "config",
    [
        # Code that would run, or that only running would turn into a value.
        pytest.param("import os; os.system('touch ran')", id="statement"),
        pytest.param("model = __import__('os').system('touch ran')", id="call"),
        pytest.param("model = open('ran', 'w').read()", id="call of a method"),
        pytest.param("model = [open(x, 'w') for x in ('ran',)]", id="comprehension"),
        pytest.param("model = dict(**open('ran', 'w'))", id="call within dict()"),
        pytest.param("model = dict(1, 2)", id="dict() of two values"),
        pytest.param("model = {**5}", id="unpacked number"),
        pytest.param("model = f'{1}'", id="f-string"),
        pytest.param("x = 1\nmodel = x", id="name as a value"),
        pytest.param("a.b = 1", id="attribute"),
        pytest.param("model: int", id="annotation"),
        # Texts on which the parser would fail, or spend much memory.
        pytest.param("model = " + "[" * 5000, id="5000 brackets"),
        pytest.param("model = " + "-" * 200_000 + "1", id="200,000 signs"),
        pytest.param("model = " + "1+" * 50_000 + "1", id="50,000 terms"),
        pytest.param("x = " + "9" * 10_000, id="10,000 digits"),
        pytest.param("x" * 600_000, id="600 kB"),
        # Texts that are no Python, and values that are no text.
        pytest.param("model = (", id="open bracket"),
        pytest.param("model = {[]: 1}", id="list as a key"),
        pytest.param("\x00", id="zero byte"),
        pytest.param(5, id="number"),
        pytest.param(None, id="None"),
        pytest.param(b"model = 1", id="bytes"),
    ],
)
def test_a_config_with_code_is_one_clear_error(config):
    with pytest.raises(EpicError, match=r"^model\.pth: its config cannot be read without running"):
        parse_config(config, "model.pth", "x")


NO_RECOGNIZER = "its `model` is no recognizer"


@pytest.mark.parametrize(
    "config, words",
    [
        pytest.param("model = None", NO_RECOGNIZER, id="None"),
        pytest.param("model = []", NO_RECOGNIZER, id="list"),
        pytest.param("model = dict(5)", NO_RECOGNIZER, id="number"),
        pytest.param("model = dict(type='X3D', gamma_w=1)", NO_RECOGNIZER, id="backbone alone"),
        # These two are names of MMEngine's own that a config may not set.
        pytest.param("filename = 'a'", NO_RECOGNIZER, id="no model, but filename"),
        pytest.param("pretty_text = 1", NO_RECOGNIZER, id="no model, but pretty_text"),
        pytest.param(
            "model = {" + "'a': {" * 90 + "}" * 91,
            "model has the type 'None', which is not registered",
            id="a model within a model 90 times",
        ),
    ],
)
def test_a_config_without_a_recognizer_is_one_error(config, words):
    values = parse_config(config, "model.pth", "x")
    with pytest.raises(EpicError, match=rf"^model\.pth: {words}"):
        clean_model(values.get("model"), "model.pth")


def test_own_modules_are_built_only_if_named(monkeypatch, folder):
    Path("my_models.py").write_text(
        "from mmaction.registry import MODELS, TRANSFORMS\n"
        "from mmaction.models import X3D\n"
        "from mmcv.transforms import BaseTransform\n"
        "@MODELS.register_module(force=True)\nclass MyX3D(X3D):\n    pass\n"
        "@TRANSFORMS.register_module(force=True)\nclass MyStep(BaseTransform):\n"
        "    def transform(self, results):\n        return results\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    model = changed("backbone.type", "MyX3D")
    with pytest.raises(EpicError, match="'MyX3D', which is not registered; .*`modules: imports:`"):
        clean_model(model, "model.pth")
    import my_models  # noqa: F401

    assert clean_model(model, "model.pth").spec == model
    steps = [{"type": "MyStep"}]
    with pytest.raises(EpicError, match="step 0 is MyStep; .*`modules: imports:`"):
        clean_pipeline(steps, "model.pth")
    assert clean_pipeline(steps, "model.pth", ["my_models"]) == steps


ZOO = Path(mmaction.__file__).parent / ".mim/configs/recognition"
# These models have their own loader for several types of input, and no head over pairs.
OTHERS = {"omnisource"}
FAMILIES = sorted(folder.name for folder in ZOO.iterdir() if folder.name not in OTHERS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_zoo_model_passes_without_its_files(family):
    model = Config.fromfile(sorted((ZOO / family).glob("*.py"))[-1]).model.to_dict()
    cleaned = clean_model(model, family)
    assert all(re.search("pretrained|init_cfg", key) for key in cleaned.dropped), cleaned.dropped
    assert cleaned.spec["backbone"]["type"] == model["backbone"]["type"]


@pytest.mark.parametrize("named", ["VideoDataset", "RepeatDataset", "planted.Dataset", ["x"], None])
def test_an_unknown_data_set_is_one_clear_error(named):
    loader = {"dataset": {"type": named, "pipeline": STEP_LIST}}
    with pytest.raises(EpicError, match=r"model.pth: test_dataloader.dataset .*expected"):
        predict_with(config_with(test_dataloader=loader))


@DATASETS.register_module()
class CountingDataset(epic100.clips.dataset.EpicSegmentVideoDataset):
    def __init__(self, step=1, **rest):
        super().__init__(**rest)


def test_an_own_data_set_keeps_its_arguments():
    base = epic100.clips.dataset.EpicSegmentVideoDataset
    dataset = {"type": "CountingDataset", "step": 3, "data_root": "/etc", "table": "/etc/passwd"}
    assert clean_dataset(dataset, base, "m") == {"type": "CountingDataset", "step": 3}
    # A path is no argument of a file's.
    hostile = clean_dataset(dataset | {"step": "/etc/passwd"}, base, "m")
    assert hostile["step"] is None
