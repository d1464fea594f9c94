"""Resources of a job against the site's facts."""

import pytest

from epic100.settings import TrainSettings
from epic100.slurm.limits import cores_of, excesses, refusal
from epic100.slurm.site import choose, facts_file, read_partitions

PARTITIONS = read_partitions(facts_file())
CPU = {"slurm_account": "lp_epic", "clusters": "wice", "slurm_partition": "batch",
       "cpus_per_task": 2, "mem_mb_per_cpu": 3400, "runtime": 30}  # fmt: skip
GPU = {"slurm_account": "lp_epic", "clusters": "wice", "slurm_partition": "gpu_a100", "gpu": 2,
       "cpus_per_task": 0, "cpus_per_gpu": 18, "mem_mb_per_cpu": 7000, "runtime": 1440}  # fmt: skip


NODES = TrainSettings(nodes=2).resources_of_nodes


@pytest.mark.parametrize("resources", [
    CPU, GPU, CPU | {"mem_mb": 99999},
    CPU | NODES | {"cpus_per_task": 72}, GPU | NODES | {"gpu": 8},
])  # fmt: skip
def test_what_the_site_allows_has_no_fault(resources):
    assert excesses(resources, 1, PARTITIONS) == []


@pytest.mark.parametrize("resources, words", [
    (CPU | {"slurm_partition": "site.cpu.name"}, "partition 'site.cpu.name' is none of wice's"),
    (CPU | {"clusters": "$CLUSTER"}, "cluster '$CLUSTER' is none of wice, genius, mindwell"),
    (CPU | {"clusters": "genius"}, "partition 'batch' is none of genius's: gpu_p100"),
    (CPU | {"runtime": "60 * hours"}, "runtime is '60 * hours', not a whole number"),
    (CPU | {"cpus_per_task": 2.5}, "cpus_per_task is 2.5, not a whole number"),
    (CPU | {"slurm_account": "$ACCOUNT"}, "slurm_account is '$ACCOUNT', not the name"),
    (CPU | {"slurm_account": None}, "slurm_account is None, not the name"),
    (CPU | {"slurm_account": "lp_myproject"}, "set yours, or EPIC100_ACCOUNT"),
    (CPU | {"nodes": 2}, "nodes is 2: each rule is one task on one node, the rest idles"),
    (CPU | {"tasks": 4}, "tasks is 4: each rule is one task on one node"),
    (CPU | NODES | {"tasks": 4}, "tasks is 4: each rule is one task on one node"),
    (CPU | NODES | {"cpus_per_task": 73}, "73 cores on wice/batch, whose nodes have 72"),
    (GPU | NODES | {"gpu": 10}, "5 GPUs on wice/gpu_a100, whose nodes have 4"),
    (GPU | NODES | {"gpu": 3}, "3 GPUs on 2 nodes; expected as many on each"),
    (CPU | {"tasks": "many"}, "tasks is 'many', not a whole number"),
    (CPU | {"cluster": "genius"}, "partition 'batch' is none of genius's"),  # comes before clusters
    (CPU | {"runtime": 4321}, "4321 minutes on wice/batch, which gives 4320"),
    (CPU | {"cpus_per_task": 73}, "73 cores on wice/batch, whose nodes have 72"),
    (CPU | {"gpu": 1}, "1 GPUs on wice/batch, whose nodes have none"),
    (CPU | {"mem_mb_per_cpu": 3401}, "Slurm would take, and charge, 3 cores"),
    (CPU | {"mem_mb_per_cpu": 0, "mem_mb": 32000}, "32000 MiB with 2 cores on wice/batch"),
    (GPU | {"gpu": 0}, "no GPU on wice/gpu_a100, which wants at least one"),
    (GPU | {"gpu": 5}, "5 GPUs on wice/gpu_a100, whose nodes have 4"),
    (GPU | {"cpus_per_task": 37}, "37 cores with 2 GPUs on wice/gpu_a100, which gives 18 a GPU"),
    (GPU | {"cpus_per_gpu": 19}, "38 cores with 2 GPUs on wice/gpu_a100, which gives 18 a GPU"),
    (GPU | {"mem_mb_per_cpu": 7100}, "255600 MiB with 2 GPUs on wice/gpu_a100, which gives 126000"),
])  # fmt: skip
def test_what_the_site_would_not_have_is_said_in_its_own_terms(resources, words):
    found = excesses(resources, 1, PARTITIONS)
    assert [fault for fault in found if words in fault], found


def test_cores_are_counted_as_the_executor_asks_for_them():
    assert cores_of({"cpus_per_task": 3}, 8) == 3
    assert cores_of({"cpus_per_task": 0, "gpu": 2, "cpus_per_gpu": 18}, 8) == 36
    assert cores_of({"cpus_per_gpu": 18}, 8) == 8  # without a GPU it says nothing
    assert cores_of({}, 8) == 8


def test_a_fault_of_many_jobs_is_said_once_and_names_the_retry_that_has_it():
    short, long = CPU, CPU | {"runtime": 9999}
    # Whatever their order: Snakemake holds them in a set.
    jobs = [(f"scan P{n:02}", 2, long, 4) for n in range(37, 0, -1)] + [("clean", 1, short, 1)]
    words = refusal(jobs, facts_file()).splitlines()
    assert len(words) == 2 and "clean" not in words[1]
    assert words[1].startswith("scan P01 (retry 1), scan P02 (retry 1), scan P03 (retry 1) and 34")
    assert refusal([("clean", 1, short, 1)], facts_file()) == ""


@pytest.mark.parametrize("word", ["wice", "h100", "debug", "genius", "mindwell"])
def test_every_site_that_can_be_chosen_gives_a_gpu_its_share_and_no_more(word):
    gpu = choose(word, env={}).gpu
    asked = {"slurm_account": "lp_epic", "clusters": gpu.cluster, "slurm_partition": gpu.name,
             "gpu": gpu.gpus, "cpus_per_gpu": gpu.cores_per_gpu,
             "mem_mb_per_cpu": gpu.mem_mb_per_core, "runtime": gpu.minutes(24)}  # fmt: skip
    assert excesses(asked, 1, PARTITIONS) == []
