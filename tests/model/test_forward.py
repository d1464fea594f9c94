"""One forward pass: its precision in steps, validation, predictions, timelines and features."""

from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from epic100.model import forward
from epic100.model.model_file import load_model
from epic100.settings import PredictSettings, TimelineSettings
from epic100.timeline.model import ModelInUse
from epic100.timeline.run import make_timelines
from epic100.training import loop
from support.models import predicted
from support.small_features import make
from support.small_runs import autocast_on_cpu, copy_results, run

pytestmark = pytest.mark.slow

ATEN = torch.ops.aten
PRODUCTS = {ATEN.convolution.default, ATEN.conv3d.default, ATEN.mm.default, ATEN.addmm.default}


class Products(TorchDispatchMode):
    """Collects the type of the first product of each pass, by the pass's name."""

    def __init__(self, found: dict[str, list[torch.dtype]], name: str):
        super().__init__()
        self.kinds, self.open = found.setdefault(name, []), True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self.open and func in PRODUCTS:
            self.kinds.append(args[-1 if func is ATEN.addmm.default else 0].dtype)
            self.open = False
        return func(*args, **kwargs or {})


@pytest.mark.parametrize(
    "precision, dtype",
    [
        ("fp32", torch.float32),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float16),
    ],
)
def test_each_pass_computes_in_what_the_recipe_says(lab, tmp_path, monkeypatch, precision, dtype):
    """Validation and features computed in float32, whatever the recipe said."""
    autocast_on_cpu(monkeypatch.setattr)
    # This CPU stands for a card that has the type.
    monkeypatch.setattr(forward, "usable", lambda dtype, device: dtype)
    found: dict[str, list[torch.dtype]] = {}

    def watched(call, name, *args, **kwargs):
        with Products(found, name):
            result = call(*args, **kwargs)
            return iter(list(result)) if name != "step" else result

    monkeypatch.setattr(loop, "train_step", partial(watched, forward.train_step, "step"))
    scores = partial(watched, forward.scores_of_views)
    monkeypatch.setattr(loop, "scores_of_views", partial(scores, "validation"))
    results = copy_results(lab, tmp_path, segments=4)
    run(lab, results, epochs=1, precision=precision, validate={"segments": 2})
    model = results / "model.pth"
    assert load_model(model).config["model"]["type"] == "ChannelsLastRecognizer3D"

    monkeypatch.setattr(forward, "scores_of_views", partial(scores, "prediction"))
    predicted(lab, model, results / "clean/val.txt", tmp_path / "val.pt", clips=1)
    monkeypatch.setattr(forward, "scores_of_views", partial(scores, "timeline"))
    film, on_cpu = lab.videos["P02_101"].path(lab.root), PredictSettings(device="cpu", workers=0)
    settings = TimelineSettings(stride=6.0)
    make_timelines([film], ModelInUse(model), tmp_path, settings=settings, predict=on_cpu)
    monkeypatch.setattr(forward, "scores_of_views", partial(scores, "features"))
    make(lab.folder, tmp_path / "P02.tsv", "model", "P02", model, stride=6.0)

    assert list(found) == ["step", "validation", "prediction", "timeline", "features"]
    assert all(kinds and set(kinds) == {dtype} for kinds in found.values()), found
