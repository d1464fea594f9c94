"""The partitions of a site: read from its file and from Slurm, and chosen by the site's name."""

import pytest

from epic100.base.errors import EpicError
from epic100.slurm.site import (
    Partition,
    choose,
    numbers_of,
    partitions_file,
    read_partitions,
)

HERE = """clusters: {here: {batch: {cores: 4, mem_mb_per_core: 5, hours: 1}}}
choices: {home: {cpu: here/batch, gpu: here/batch}}
"""


@pytest.mark.parametrize(
    "fields, numbers",
    [
        pytest.param(
            "MaxTime=3-00:00:00 TotalCPUs=144 TotalNodes=2 MaxMemPerCPU=3400",
            # 144 cores on two nodes are 72 a node, and three days are 72 hours.
            {"cores": 72, "mem_mb_per_core": 3400, "hours": 72},
            id="two nodes",
        ),
        pytest.param(
            "MaxTime=01:30:00 TotalCPUs=64 TotalNodes=1 MaxCPUsPerNode=8 DefMemPerCPU=7500",
            {"cores": 8, "mem_mb_per_core": 7500, "hours": 1.5},
            id="limited cores",
        ),
        pytest.param(
            "MaxTime=UNLIMITED TotalCPUs=many TotalNodes=0 MaxMemPerCPU=UNLIMITED",
            {},
            id="no numbers",
        ),
        pytest.param("", {}, id="nothing"),
    ],
)
def test_numbers_of_a_partition_are_read_from_scontrol(fields, numbers):
    assert numbers_of(dict(field.split("=") for field in fields.split())) == numbers


def test_jobs_ask_within_their_partition_s_limits():
    limited = Partition("c", "p", cores=8, hours=30)
    assert limited.minutes(24, without=72) == 30 * 60
    assert limited.cores_for("2 * attempt") == "min(8, 2 * attempt)"
    unlimited = Partition("c", "p")
    assert unlimited.minutes(24, without=72) == 72 * 60
    assert Partition("c", "p", cores_per_gpu=8).minutes(24, without=72) == 24 * 60
    assert unlimited.cores_for("16") == "16"


@pytest.mark.parametrize(
    "name, env, account, cpu, gpu",
    [
        ("wice", {}, "lp_b", "wice/batch", "wice/gpu_a100"),
        ("genius", {}, "lp_b", "wice/batch", "genius/gpu_v100"),
        ("wice", {"EPIC100_SITE": ""}, "lp_b", "wice/batch", "wice/gpu_a100"),
        (
            "wice",
            {
                "EPIC100_SITE": "genius",
                "EPIC100_ACCOUNT": "lp_a",
                "EPIC100_GPU": "genius/gpu_p100",
                "EPIC100_CPU": "wice/batch_long",
            },
            "lp_a",
            "wice/batch_long",
            "genius/gpu_p100",
        ),
    ],
    ids=["wice", "genius", "empty variable", "all variables"],
)
def test_variables_come_before_the_profile_s_site(name, env, account, cpu, gpu):
    site = choose(name, "lp_b", env=env)
    assert site.account == account
    assert f"{site.cpu.cluster}/{site.cpu.name}" == cpu
    assert f"{site.gpu.cluster}/{site.gpu.name}" == gpu


@pytest.mark.parametrize(
    "name, env, message",
    [
        ("wiec", {}, "no Slurm site 'wiec' .*; did you mean wice?"),
        ("wice", {"EPIC100_GPU": "gpu_a100"}, "no partition 'gpu_a100' .*known: "),
        ("wice", {"EPIC100_CPU": "genius/batch"}, "no partition 'genius/batch' .*known: "),
    ],
    ids=["site", "partition without its cluster", "partition of another cluster"],
)
def test_an_unknown_name_lists_the_known(name, env, message):
    with pytest.raises(EpicError, match=message):
        choose(name, env=env)


@pytest.mark.parametrize(
    "text, message",
    [
        pytest.param(
            HERE.replace("mem_mb_per_core", "memory"), "here/batch: .*memory", id="unknown key"
        ),
        pytest.param(
            f"{HERE}without_clusters_option: [there]\n",
            "without_clusters_option: 'there' is none of here",
            id="unknown cluster",
        ),
    ],
)
def test_a_wrong_entry_has_its_place(tmp_path, text, message):
    path = tmp_path / "partitions.yaml"
    path.write_text(text)
    with pytest.raises(EpicError, match=message):
        read_partitions(path)


def test_the_folder_s_partitions_replace_the_shipped(tmp_path, monkeypatch):
    # No site chooses these partitions of the shipped file, but EPIC100_GPU and EPIC100_CPU can.
    assert read_partitions(partitions_file(tmp_path)).keys() > {
        "genius/gpu_v100_long",
        "genius/gpu_p100_long",
        "genius/gpu_p100_debug",
        "wice/bigmem",
        "wice/hugemem",
        "wice/interactive",
        "mindwell/interactive",
        "mindwell/bigmem",
    }
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/partitions.yaml").write_text(HERE)
    monkeypatch.chdir(tmp_path)
    assert choose("home", env={}).cpu.cluster == "here"
    assert read_partitions(partitions_file(tmp_path)).keys() == {"here/batch"}


@pytest.mark.parametrize(
    "more, clusters_option",
    [("", "here"), ("without_clusters_option: [here]\n", "")],
    ids=["with --clusters", "without --clusters"],
)
def test_sbatch_gets_no_cluster_without_the_option(tmp_path, more, clusters_option):
    path = tmp_path / "partitions.yaml"
    path.write_text(f"{HERE}{more}")
    cpu = choose("home", path=path, env={}).cpu
    assert cpu.cluster == "here"
    assert cpu.clusters == clusters_option
