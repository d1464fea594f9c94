"""Jobs that a later one for the same files replaces."""

from pathlib import Path

import pytest

from epic100.base.atomic import FENCE, write_text
from epic100.base.errors import EpicError
from epic100.base.lock import end_if_not_newest, newest_file

JOB = [
    *("python", "-m", "snakemake", "--snakefile", "a b"),
    *("--target-jobs", "scan:participant=P01", "--allowed-rules", "scan"),
]


@pytest.fixture
def start_job(tmp_path, monkeypatch):
    """Begins `JOB` in this process as the cluster job of an id."""
    monkeypatch.chdir(tmp_path)
    # The code sets this variable, and `monkeypatch` puts it back after the test.
    monkeypatch.setenv(FENCE, "")
    newest_file(JOB).parent.mkdir(parents=True)

    def start(job_id):
        monkeypatch.setenv("SLURM_JOB_ID", job_id)
        end_if_not_newest(JOB)

    return start


def test_a_job_that_a_later_one_replaces_writes_no_file(start_job):
    start_job("6")
    write_text("out", "of job 6")
    newest_file(JOB).write_text('{"token": "7"}')
    with pytest.raises(EpicError, match="7 is at work for the same files since: this one ends"):
        write_text("out", "of job 6, too late")
    assert Path("out").read_text() == "of job 6"


def test_only_the_newest_of_two_jobs_starts(start_job):
    newest_file(JOB).write_text('{"token": "7"}')
    with pytest.raises(SystemExit, match="7 is at work"):
        start_job("6")
    start_job("7")
    write_text("out", "of job 7")


@pytest.mark.parametrize("text", ["", '{"token": "7', "7", "[]", "{}", "\0\xff", "[" * 100_000])
def test_a_file_that_names_no_newest_job_ends_no_job(start_job, text):
    newest_file(JOB).write_text(text)
    start_job("6")
    write_text("out", "complete")
