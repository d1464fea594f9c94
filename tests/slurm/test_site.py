"""Facts of sites, and the one word that chooses among them."""

import re

import pytest

from epic100.base.errors import EpicError
from epic100.slurm.site import Partition, choose, facts_file, facts_of, read_partitions

# EPIC100_GPU and EPIC100_CPU may choose these partitions of the site, but no `choices` do.
OTHERS = (
    "genius/gpu_v100_long",
    "genius/gpu_p100_long",
    "genius/gpu_p100_debug",
    "wice/bigmem",
    "wice/hugemem",
    "wice/interactive",
    "mindwell/interactive",
    "mindwell/bigmem",
)
HERE = """clusters: {here: {batch: {cores: 4, mem_mb_per_core: 5, hours: 1}}}
choices: {home: {cpu: here/batch, gpu: here/batch}}
"""


@pytest.mark.parametrize(
    "words, facts",
    [
        (
            "MaxTime=3-00:00:00 TotalCPUs=144 TotalNodes=2 MaxMemPerCPU=3400 TRES=cpu=144,mem=9M",
            {"cores": 72, "mem_mb_per_core": 3400, "hours": 72},
        ),
        (
            "MaxTime=01:30:00 TotalCPUs=64 TotalNodes=1 MaxCPUsPerNode=8 DefMemPerCPU=7500 "
            "MaxMemPerNode=UNLIMITED TRES=cpu=64,node=1,billing=64,gres/gpu=4",
            {"cores": 8, "mem_mb_per_core": 7500, "hours": 1.5, "gpus": 4},
        ),
        ("MaxTime=UNLIMITED TotalCPUs=many TotalNodes= MaxMemPerCPU=UNLIMITED TRES=(null) x =", {}),
        ("", {}),
    ],
)
def test_what_slurm_tells_of_a_partition_is_taken_and_what_is_no_number_is_not_known(words, facts):
    assert facts_of(f"PartitionName=a {words}") == ("a", facts)


def test_a_job_asks_for_no_more_than_a_partition_gives_where_that_is_known():
    known, unknown = Partition("c", "p", cores=8, hours=1), Partition("c", "p")
    assert (known.minutes(24), unknown.minutes(24)) == (60, 24 * 60)
    assert (known.cores_for("2 * attempt"), unknown.cores_for("16")) == (
        "min(8, 2 * attempt)",
        "16",
    )


CHOSEN_FOR_ONE_RUN = {
    "EPIC100_SITE": "genius",
    "EPIC100_ACCOUNT": "lp_a",
    "EPIC100_GPU": "genius/gpu_p100",
    "EPIC100_CPU": "wice/batch_long",
}


@pytest.mark.parametrize(
    "word, env, account, cpu, gpu",
    [
        ("wice", {}, "lp_b", "wice/batch", "wice/gpu_a100"),
        ("genius", {}, "lp_b", "wice/batch", "genius/gpu_v100"),
        ("wice", {"EPIC100_SITE": ""}, "lp_b", "wice/batch", "wice/gpu_a100"),
        ("wice", CHOSEN_FOR_ONE_RUN, "lp_a", "wice/batch_long", "genius/gpu_p100"),
    ],
)
def test_one_word_chooses_where_cpu_and_gpu_jobs_go_and_variables_do_for_one_run(
    word, env, account, cpu, gpu
):
    site = choose(word, "lp_b", env=env)
    partitions = (f"{each.cluster}/{each.name}" for each in (site.cpu, site.gpu))
    assert (site.account, *partitions) == (account, cpu, gpu)


@pytest.mark.parametrize(
    "word, env, words",
    [
        ("wiec", {}, "no Slurm site 'wiec' .*; did you mean wice?"),
        ("wice", {"EPIC100_GPU": "gpu_a100"}, "no partition 'gpu_a100'"),
        ("wice", {"EPIC100_CPU": "genius/batch"}, "no partition 'genius/batch'"),
    ],
)
def test_a_name_that_is_not_there_is_reported_with_those_that_are(word, env, words):
    with pytest.raises(EpicError, match=words) as error:
        choose(word, env=env)
    assert re.search("known: |did you mean ", str(error.value))


@pytest.mark.parametrize(
    "text, words",
    [
        (HERE.replace("mem_mb_per_core", "memory"), "here/batch: .*memory"),
        (
            f"{HERE}without_clusters_option: [there]\n",
            "without_clusters_option: 'there' is none of here",
        ),
    ],
)
def test_a_wrong_fact_is_named_with_its_place(tmp_path, text, words):
    path = tmp_path / "partitions.yaml"
    path.write_text(text)
    with pytest.raises(EpicError, match=words):
        read_partitions(path)


def test_the_file_of_the_folder_where_snakemake_is_called_comes_before_the_one_that_ships(
    tmp_path, monkeypatch
):
    assert set(OTHERS) <= read_partitions(facts_file(tmp_path)).keys()
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/partitions.yaml").write_text(HERE)
    monkeypatch.chdir(tmp_path)
    assert choose("home", env={}).cpu.cluster == "here"
    assert read_partitions(facts_file(tmp_path)).keys() == {"here/batch"}


@pytest.mark.parametrize("facts, option", [("", "here"), ("without_clusters_option: [here]\n", "")])
def test_a_cluster_whose_jobs_take_no_option_is_named_in_the_facts_and_not_to_sbatch(
    tmp_path, facts, option
):
    path = tmp_path / "partitions.yaml"
    path.write_text(f"{HERE}{facts}")
    cpu = choose("home", path=path, env={}).cpu
    assert (cpu.cluster, cpu.clusters) == ("here", option)
