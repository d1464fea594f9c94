"""A job of a rule, in which one system call fails at a time: of two rules, and weekly of all."""

import contextlib
import errno
import itertools
import os
import re
import shutil
import sys
from collections import Counter

import pytest

from epic100.base import disk
from epic100.base.errors import DiskError
from support import failing_calls, failing_calls_jobs
from support.checkout import ROOT, lacks
from support.fuzzing import TARGETS

SCENES = failing_calls_jobs.scenes("http://127.0.0.1").values()
# These rules are tested each time, with this number of failing calls.
OFTEN = {"annotate": 3, "scan": 5}
RARELY = sorted({rule for scene in SCENES for rule in scene.makes} - OFTEN.keys())


def test_there_is_a_recorded_job_of_every_rule():
    rules = set()
    for path in ROOT.glob("rules/*.smk"):
        for rule in re.split(r"^ *rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            # A rule without a script is a target without a job.
            if "script:" in rule:
                rules.add(rule.partition(":")[0])
    assert Counter(rule for scene in SCENES for rule in scene.makes) == Counter(rules)


@pytest.fixture(scope="module")
def kept(request):
    """A server of forks, and the folder of the jobs of the rules that this call of pytest tests."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the shim of failing system calls is for Linux")
    if not shutil.which("gcc"):
        lacks("gcc is missing, which the shim of failing system calls needs")
    chosen = [
        item.callspec.params["rule"]
        for item in request.session.items
        if item.path == request.path and "kept" in item.fixturenames
    ]
    with failing_calls.kept_jobs(chosen) as server_and_jobs:
        yield server_and_jobs


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule", [*OFTEN, *(pytest.param(rule, marks=pytest.mark.weekly) for rule in RARELY)]
)
def test_a_failed_call_never_gives_a_wrong_result_and_the_same_command_goes_on(rule, kept):
    server, jobs = kept
    job = failing_calls.RecordedJob(server, rule, jobs / rule)
    places = failing_calls.some(list(job.places(calls=2)), OFTEN.get(rule, 3))
    failed = [job.inject(place) for place in places]
    if rule in OFTEN:
        assert {place.error for place in places} > {"killed"}
        assert all(call.hit for call in failed)
    assert not [call for call in failed if call.outcome in ("WRONG", "unclear")]


@pytest.mark.parametrize("kind", ["own checkpoint", "index", "features", "zip", "kept result"])
def test_a_failed_read_of_an_archive_is_reported_as_an_error_of_the_disk(
    kind, tmp_path, monkeypatch
):
    """zipfile took a failed read for the end of the file, so intact checkpoints were set aside."""
    target = TARGETS[kind]
    path = tmp_path / "file"
    path.write_bytes(target.seeds(tmp_path)[0])
    # Each turn of the loop lets one more read succeed, until none fails.
    reads = iter(())
    pread = os.pread

    def failing_pread(*arguments):
        if next(reads):
            return pread(*arguments)
        raise OSError(errno.EIO, "Input/output error")

    # Without waits, a failed read is not tried again.
    monkeypatch.setattr(disk, "WAITS", ())
    monkeypatch.setattr(disk.os, "pread", failing_pread)
    for good_reads in range(99):
        reads = itertools.chain([True] * good_reads, [False])
        with contextlib.suppress(DiskError):
            target.read(path)
            break
    # At least the end of the file, the list of its members and a member are read.
    assert good_reads >= 3 and not next(reads)
    assert path.is_file()
