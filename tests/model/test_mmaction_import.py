import json

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


def test_the_real_one_is_taken_where_it_is_there(tmp_path):
    """A package that has it, of the same names, before the installed one."""
    folder = tmp_path / "mmaction/models/localizers/drn"
    folder.mkdir(parents=True)
    (folder / "drn.py").write_text("DRN = 'real'\n")
    (tmp_path / "mmaction/__init__.py").touch()
    (tmp_path / "mmaction/utils.py").write_text("class dependency: pass\n")
    (tmp_path / "mmaction/registry.py").write_text("MODELS = None\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import epic100.model.mmaction_import\n"
        "from mmaction.models.localizers.drn.drn import DRN; print(DRN)"
    )
    assert python("-c", code).stdout == "real\n"
