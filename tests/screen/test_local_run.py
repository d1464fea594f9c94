"""A run on this machine with `--logger epic100`: the real workflow, on a small archive."""

import pytest

from support.archive import run, said

pytestmark = pytest.mark.slow

PAIRS = "results/clean/pairs.tsv"


def test_a_failure_is_reported_with_its_log_and_once_more_at_the_end(archive):
    in_the_way = archive / "results/scan/cache/P02"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()  # the job of P02 wants a folder there, and dies
    done = run(archive, PAIRS, "--keep-going", "--logger", "epic100", well=False)
    lines = said(done).splitlines()
    failed = [
        n
        for n, line in enumerate(lines)
        if line.startswith("FAILED scan P02: ") and "File exists" in line
    ]
    assert len(failed) == 2 and failed[1] == len(lines) - 3
    assert lines[failed[1] + 1] == f"  log: {archive}/results/logs/scan/P02.log"
    assert lines[-1].startswith("Next: fix this and give the same command")
    assert "RuleException" not in said(done) and "Traceback" not in said(done)
    assert len(lines) <= 20, said(done)
    (log,) = (archive / ".snakemake/log").glob("*.snakemake.log")
    for word in ("Scan of P02: 2 videos", "Finished jobid", "Error in rule scan", "RuleException"):
        assert word in log.read_text()


def test_a_run_with_nothing_to_do_and_a_bad_config_look_as_they_always_do(cleaned):
    done = run(cleaned, PAIRS, "--logger", "epic100")
    assert "Nothing to be done" in said(done) and "jobs done" not in said(done)
    text = (cleaned / "config.yaml").read_text()
    (cleaned / "config.yaml").write_text(text.replace("videos:", "video:"))
    assert "did you mean 'videos'" in said(run(cleaned, PAIRS, "--logger", "epic100", well=False))
