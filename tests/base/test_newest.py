"""Of several jobs for one target, an older one ends before it touches a file."""

from pathlib import Path

import pytest

from epic100.base.atomic import FENCE, write_text
from epic100.base.errors import EpicError
from epic100.base.newest import end_if_not_newest, newest_file

JOB = ["python", "-m", "snakemake", "--snakefile", "a b", "--target-jobs", "scan:participant=P01",
       "--allowed-rules", "scan"]  # fmt: skip


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Starts a job of `JOB` under an id; the file of its target's number is the attribute."""
    monkeypatch.chdir(tmp_path)
    # The code sets this variable, and `monkeypatch` puts it back after the test.
    monkeypatch.setenv(FENCE, "")
    newest_file(JOB).parent.mkdir(parents=True)

    def start(number):
        monkeypatch.setenv("SLURM_JOB_ID", number)
        end_if_not_newest(JOB)

    return start


def test_an_older_job_ends_at_its_start_or_when_it_would_save_and_the_newest_goes_on(job):
    # Without an id this process is no job of a cluster, and goes on.
    end_if_not_newest(JOB)
    job("6")
    write_text("out", "of the first")
    newest_file(JOB).write_text('{"token": "7"}')
    with pytest.raises(EpicError, match="7 is at work for the same files since: this one ends"):
        write_text("out", "of the first, too late")
    with pytest.raises(SystemExit, match="7 is at work"):
        job("6")
    job("7")
    write_text("out", "of the second")
    assert [path.name for path in Path().iterdir() if path.is_file()] == ["out"]
    assert Path("out").read_text() == "of the second"


@pytest.mark.parametrize("text", ["", '{"token": "7', "7", "[]", "{}", "\0\xff"])
def test_a_number_that_is_not_whole_or_of_another_version_ends_no_job(job, text):
    newest_file(JOB).write_text(text)
    job("6")
    write_text("out", "whole")
