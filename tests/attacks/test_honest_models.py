"""Configs of MMAction2's own zoo still pass: what is refused to strangers is no honest model."""

from pathlib import Path

import mmaction
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from epic100.model.foreign_config import clean_model
from epic100.model.foreign_model import build_foreign
from support.small_model import MODELS

pytestmark = pytest.mark.slow

ZOO = Path(mmaction.__file__).parent / ".mim/configs/recognition"
# Models with a loader of their own for several kinds of input: no head over pairs, no reader here.
OTHERS = {"omnisource"}
FAMILIES = sorted(folder.name for folder in ZOO.iterdir() if folder.name not in OTHERS)
SMALL = ["x3d/x3d_s_13x6x1_facebook-kinetics400-rgb.py", "trn", "slowonly", "tsm", "slowfast"]


def config_of(name: str) -> Config:
    """A config by its name, or the last one of a family."""
    path = ZOO / name
    return Config.fromfile(path if path.suffix == ".py" else sorted(path.glob("*.py"))[-1])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_the_zoo_passes_but_for_what_it_would_load(family):
    model = config_of(family).model.to_dict()
    cleaned = clean_model(model, family)
    assert all("pretrained" in d or "init_cfg" in d for d in cleaned.dropped), cleaned.dropped
    assert cleaned.spec["backbone"]["type"] == model["backbone"]["type"]


@pytest.mark.parametrize("name", SMALL)
def test_a_model_of_the_zoo_is_built_and_takes_its_weights(name):
    init_default_scope("mmaction")
    weights = MODELS.build(clean_model(config_of(name).model.to_dict(), name).spec).state_dict()
    again = clean_model(config_of(name).model.to_dict(), name)
    assert build_foreign(again, weights, "its config", name).state_dict().keys() == weights.keys()
