"""System calls that fail, one at a time: a sample of benchmarks/faults.py, which has them all."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from support.checkout import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import faults

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path:
    if not sys.platform.startswith("linux"):
        pytest.skip("the shim of failing system calls is for Linux")
    if not shutil.which("gcc"):
        if os.environ.get("EPIC100_NO_SKIPS"):
            pytest.fail("gcc is missing, which the shim of failing system calls needs")
        pytest.skip("gcc is missing, which the shim of failing system calls needs")
    return faults.build_shim(tmp_path_factory.mktemp("shim"))


@pytest.mark.parametrize(("rule", "most"), [("annotate", 3), ("verify", 4), ("scan", 5)])
def test_a_failed_call_never_gives_a_wrong_result_and_the_same_command_goes_on(
    rule, most, shim, tmp_path_factory
):
    folder = shim.parent / rule
    folder.mkdir()
    found = list(faults.faults_of(rule, folder, shim, every=1, jobs=1, most=most))
    assert len(found) == most
    assert {fault.kind for fault in found} == set(faults.FAULTS)  # the process is killed too
    assert not [fault for fault in found if fault.outcome in ("WRONG", "traceback")]
