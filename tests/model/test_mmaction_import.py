import importlib
import importlib.machinery
import json
import sys

import pytest

import epic100.model.mmaction_import as door
from support.checkout import python

REGISTERED = {
    "DATASETS": {"EpicSegmentVideoDataset"},
    "METRICS": {"EpicPairMetric"},
    "TRANSFORMS": {"OpenSegment", "DecodeSegment"},
    "HOOKS": {"SampleSeedHook", "SafeCheckpointHook", "TelemetryHook"},
    "MODELS": {"X3D"},
}


def test_the_door_alone_registers_all_that_a_config_names_and_says_nothing_of_mmaction2():
    """The package as published, in a process that has imported nothing before."""
    code = (
        "import epic100.mmaction, json, mmaction.registry as all\n"
        f"print(json.dumps({{n: list(getattr(all, n).module_dict) for n in {[*REGISTERED]}}}))"
    )
    done = python("-W", "error::UserWarning", "-c", code)
    found = json.loads(done.stdout)
    assert all(names <= set(found[registry]) for registry, names in REGISTERED.items())
    assert not done.stderr


def test_the_placeholder_serves_only_what_is_absent():
    finder = door._DrnPlaceholder()
    assert finder.find_spec("mmaction.models.localizers.bmn") is None
    kinds = [finder if isinstance(finder, type) else type(finder) for finder in sys.meta_path]
    assert kinds.index(door._DrnPlaceholder) > kinds.index(importlib.machinery.PathFinder)
    drn = importlib.import_module("mmaction.models.localizers.drn.drn")
    with pytest.raises(NotImplementedError, match="1.2.0"):
        drn.DRN()
