import json

import pytest

from support.checkout import python

# Some of the classes that configs name, by MMEngine's registry.
REGISTERED = {
    "DATASETS": {"EpicSegmentVideoDataset"},
    "METRICS": {"EpicPairMetric"},
    "TRANSFORMS": {"OpenSegment", "DecodeSegment"},
    "HOOKS": {"SampleSeedHook", "SafeCheckpointHook", "TelemetryHook"},
    "MODELS": {"X3D"},
}


@pytest.mark.slow
def test_importing_epic100_mmaction_registers_all_classes_without_warnings():
    code = (
        "import epic100.mmaction, json, mmaction.registry as all\n"
        f"print(json.dumps({{n: list(getattr(all, n).module_dict) for n in {[*REGISTERED]}}}))"
    )
    done = python("-W", "error::UserWarning", "-c", code)
    found = json.loads(done.stdout)
    assert all(names <= set(found[registry]) for registry, names in REGISTERED.items())
    assert not done.stderr
