"""A run on a site other than VSC: one cluster, without accounts, `--clusters` and GPUs.

Its Slurm forgets a job soon after its end. A user chooses such a site by EPIC100_SITE and a
partitions file.
"""

from support.archive import configure
from support.checkout import ROOT
from support.slurm_calls import Call
from support.slurm_rig import HOME, running

PARTITIONS = """
choices:
  home: {cpu: home/short, gpu: home/short}
without_clusters_option: [home]
without_account: [home]
clusters:
  home:
    short:
"""


def test_runs_go_on_without_slurm_s_accounts(again, tmp_path_factory):
    folder = again()
    train = {"config": str(ROOT / "config/x3d_demo.py"), "epochs": 1, "device": "cpu"}
    configure(folder, train=train, predict={"gpus": 0})
    (folder / "profiles").mkdir()
    (folder / "profiles/partitions.yaml").write_text(PARTITIONS)
    snakefile = ("--snakefile", str(ROOT / "Snakefile"))
    there = {
        "profile": str(ROOT / "profiles/vsc"),
        "cwd": folder,
        "env": {"EPIC100_SITE": "home", "EPIC100_ACCOUNT": ""},
    }
    with running(tmp_path_factory.mktemp("home"), HOME) as home:
        # The job waits until the partition is open.
        home.login("scontrol", "update", "PartitionName=short", "State=DOWN")
        with Call(home, folder, "results/model.pth", *snakefile, **there) as first:
            (job,) = first.submitted()
            first.kill()
        (shown,) = home.login("scontrol", "--oneliner", "show", "job", job).stdout.splitlines()
        with Call(home, folder, "results/predictions/val.pt", *snakefile, **there) as second:
            second.until(f"train: job {job} of root on home/short, pending, is of an earlier run")
            home.login("scontrol", "update", "PartitionName=short", "State=UP")
            said = second.ends()
            # The training of the first call has ended, so only the prediction is submitted.
            assert len(second.submitted()) == 1
    assert "FAILED" not in said
    # Slurm shows a job as `JobId=1 Partition=short ...`.
    for field in ("Partition=short", "NumCPUs=16", "TimeLimit=12:00:00", "Account=(null)"):
        assert field in shown.split()
