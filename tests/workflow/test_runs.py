"""Runs side by side on the real DAG."""

import pytest
import yaml

from support.archive import configure, jobs, make_archive, run, said

pytestmark = pytest.mark.slow

SWEEP = yaml.safe_load("""
  train:
    seed: [0, 1]
    options:
      optim_wrapper.optimizer.lr: [0.003, 0.01, 0.03]
""")


def test_a_sweep_is_a_training_for_each_run_and_its_lists_and_scans_are_shared(tmp_path):
    folder = make_archive(tmp_path)
    configure(folder, sweep=SWEEP)
    found = jobs(run(folder, "-n"))
    assert found["train"] == found["predict"] == found["evaluate"] == 6
    assert found["scan"] == 2 and found["clean"] == 1 and "export" not in found


def test_a_named_run_has_the_jobs_of_the_default_run_and_writes_to_its_own_folder(tmp_path):
    folder = make_archive(tmp_path)
    default = jobs(run(folder, "-n"))
    configure(folder, run="b")
    done = run(folder, "-n")
    assert jobs(done) == default
    assert "results/runs/b/model.pth" in said(done) and "results/model.pth" not in said(done)
    assert "MissingRuleException" in said(run(folder, "-n", "results/model.pth"))
