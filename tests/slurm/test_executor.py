"""Of several Slurm jobs for one target, an older one ends before it touches a file."""

import pytest

from epic100.slurm.executor import Corrections, end_if_not_newest, newest_file

JOB = ["python", "-m", "snakemake", "--snakefile", "a b", "--target-jobs", "scan:participant=P01",
       "--allowed-rules", "scan"]  # fmt: skip
CALL = ["sbatch", "--wrap=cd /x && python -m snakemake --snakefile 'a b' "
        "--target-jobs 'scan:participant=P01' --allowed-rules scan"]  # fmt: skip


def test_a_submission_and_its_job_mean_the_same_file_and_other_targets_have_others():
    assert newest_file(CALL) == newest_file(JOB)
    assert newest_file([word.replace("P01", "P02") for word in JOB]) != newest_file(JOB)


def test_an_older_job_ends_and_the_newest_and_one_that_nothing_tells_of_go_on(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    end_if_not_newest(JOB, {})  # no Slurm job
    end_if_not_newest(JOB, {"SLURM_JOB_ID": "7"})
    newest_file(JOB).parent.mkdir(parents=True)
    newest_file(JOB).write_text("7")
    end_if_not_newest(JOB, {"SLURM_JOB_ID": "7"})
    with pytest.raises(SystemExit, match="job 7 was submitted for the same files later"):
        end_if_not_newest(JOB, {"SLURM_JOB_ID": "6"})


def test_where_sacct_is_not_the_reason_is_what_slurm_wrote_into_the_log(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "7.log").write_text("slurmstepd-n1: error: Detected 1 oom_kill event\n")
    assert Corrections([], tmp_path, print).reason("7") == "Detected 1 oom_kill event"
