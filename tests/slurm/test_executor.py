"""Of several Slurm jobs for one target, an older one ends before it touches a file."""

import shlex
from pathlib import Path

import pytest

from epic100.base.atomic import FENCE, write_text
from epic100.base.errors import EpicError
from epic100.slurm.executor import Corrections, end_if_not_newest, newest_file
from support.slurm_calls import put_before

JOB = ["python", "-m", "snakemake", "--snakefile", "a b", "--target-jobs", "scan:participant=P01",
       "--allowed-rules", "scan"]  # fmt: skip
CALL = ["sbatch", "--wrap=cd /x && python -m snakemake --snakefile 'a b' "
        "--target-jobs 'scan:participant=P01' --allowed-rules scan"]  # fmt: skip


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Starts a job of `JOB` under an id; the file of its target's number is the attribute."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FENCE, "")  # put back after the test
    newest_file(JOB).parent.mkdir(parents=True)

    def start(number):
        monkeypatch.setenv("SLURM_JOB_ID", number)
        end_if_not_newest(JOB)

    return start


def test_an_older_job_ends_at_its_start_or_when_it_would_save_and_the_newest_goes_on(job):
    end_if_not_newest(JOB)  # no Slurm job
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


def test_a_number_that_cannot_be_written_stops_no_submission(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", put_before("sbatch", "echo 7", tmp_path / "bin")["PATH"])
    newest_file(JOB).parents[1].mkdir()
    newest_file(JOB).parent.touch()  # in the way
    assert Corrections([], tmp_path, print).submit(shlex.join(CALL), None).stdout == "7"


def test_where_sacct_is_not_the_reason_is_what_slurm_wrote_into_the_log(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "7.log").write_text("slurmstepd-n1: error: Detected 1 oom_kill event\n")
    assert Corrections([], tmp_path, print).reason("7") == "Detected 1 oom_kill event"
