"""The precision of forward passes: in training, validation, predictions, timelines and features."""

import inspect
from functools import partial

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from epic100.model import forward
from epic100.model.mmaction_import import models
from epic100.model.model_file import load_model
from epic100.prediction.timeline_model import ModelInUse
from epic100.prediction.whole_videos import make_timelines
from epic100.settings.prediction import PredictSettings, TimelineSettings
from support.models import predicted
from support.small_features import make
from support.small_runs import autocast_on_cpu, copy_results, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "precision, dtype",
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_all_passes_have_the_recipe_s_precision(lab, tmp_path, monkeypatch, precision, dtype):
    """Validation and features once computed in float32, whatever the recipe said."""
    autocast_on_cpu(monkeypatch.setattr)
    # Here the CPU supports every type, as a new GPU does.
    monkeypatch.setattr(forward, "usable", lambda dtype, device: dtype)
    dtypes: dict[str, set[torch.dtype]] = {}

    def call_and_note(function, pass_name, *args, **kwargs):
        """Call a function, and note under a name the types that convolutions give."""
        noted = dtypes.setdefault(pass_name, set())

        def note(module, inputs, output):
            if isinstance(module, torch.nn.Conv3d):
                noted.add(output.dtype)

        with register_module_forward_hook(note):
            result = function(*args, **kwargs)
            # Scores come from a generator, which must run as long as the hook is there.
            return iter(list(result)) if inspect.isgenerator(result) else result

    scores = partial(call_and_note, forward.scores_of_views)
    for method, pass_name in (("train_step", "step"), ("val_step", "validation")):
        noting = partial(call_and_note, getattr(models.Recognizer3D, method), pass_name)
        monkeypatch.setattr(
            models.Recognizer3D,
            method,
            lambda self, *args, of=noting, **kwargs: of(self, *args, **kwargs),
        )
    results = copy_results(lab, tmp_path, segments=4)
    run(lab, results, epochs=1, precision=precision, validate={"segments": 2})
    model = results / "model.pth"
    assert load_model(model).config["model"]["type"] == "ChannelsLastRecognizer3D"

    monkeypatch.setattr(forward, "scores_of_views", partial(scores, "prediction"))
    predicted(lab, model, results / "clean/val.txt", tmp_path / "val.pt", clips=1)
    monkeypatch.setattr(forward, "scores_of_views", partial(scores, "timeline"))
    film = lab.videos["P02_101"].path(lab.root)
    on_cpu, settings = PredictSettings(device="cpu", workers=0), TimelineSettings(stride=6.0)
    make_timelines([film], ModelInUse(model), tmp_path, settings=settings, predict=on_cpu)
    monkeypatch.setattr(forward, "scores_of_views", partial(scores, "features"))
    make(lab.folder, tmp_path / "P02.tsv", "model", "P02", model, stride=6.0)

    names = ("step", "validation", "prediction", "timeline", "features")
    assert dtypes == {name: {dtype} for name in names}
