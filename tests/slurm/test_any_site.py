"""A site with one cluster, partitions of its own, jobs that take no `--clusters`, and no GPU.

It keeps no accounts, and forgets a job as soon as it may. A run there differs from one on VSC by a
word of the environment, and in what is here."""

from support.archive import configure
from support.checkout import ROOT
from support.slurm_calls import Call
from support.slurm_rig import HOME, running

FACTS = """
choices:
  home: {cpu: home/short, gpu: home/short}
without_clusters_option: [home]
without_account: [home]
clusters:
  home:
    short:
"""


def test_a_training_goes_on_after_kill_9_there_and_jobs_that_left_the_queue_are_judged_by_outputs(
    again, tmp_path_factory
):
    folder = again()
    train = {"config": str(ROOT / "config/x3d_demo.py"), "epochs": 1, "device": "cpu"}
    configure(folder, train=train, predict={"gpus": 0})
    (folder / "profiles").mkdir()
    (folder / "profiles/partitions.yaml").write_text(FACTS)
    snakefile = ("--snakefile", str(ROOT / "Snakefile"))
    there = {"profile": str(ROOT / "profiles/vsc"), "cwd": folder}
    there["env"] = {"EPIC100_SITE": "home", "EPIC100_ACCOUNT": ""}
    with running(tmp_path_factory.mktemp("home"), HOME) as home:
        home.login("scontrol", "update", "PartitionName=short", "State=DOWN")
        with Call(home, folder, "results/model.pth", *snakefile, **there) as first:
            (train,) = first.submitted()
            first.kill()
        (job,) = home.login("scontrol", "--oneliner", "show", "job", train).stdout.splitlines()
        with Call(home, folder, "results/predictions/val.pt", *snakefile, **there) as second:
            second.until(f"train: job {train} of root on home/short, pending")
            home.login("scontrol", "update", "PartitionName=short", "State=UP")
            said = second.ends()
            # Only the prediction is submitted now.
            assert len(second.submitted()) == 1
    # A message that is said once is on the screen and in the log.
    assert said.count("sacct does not tell") <= 2
    assert "FAILED" not in said
    facts = dict(word.partition("=")[::2] for word in job.split())
    expected = {"Partition": "short", "NumCPUs": "16", "TimeLimit": "12:00:00", "Account": "(null)"}
    assert {key: facts[key] for key in expected} == expected
