import pandas as pd
import pytest

from epic100.base.job_costs import read_benchmarks
from epic100.figures.performance import plot_rules
from support.checkout import SHORT_DEMO, run_snakemake
from support.pictures import cut, words

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
ROW = "{}\t0:05:15\t{}\t1813.20\t735.35\t748.29\t23.96\t772.68\t{}\t248.21\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b/scan").mkdir(parents=True)
    (tmp_path / "b/train.tsv").write_text(HEADER + ROW.format(3600, 2048, 150))
    (tmp_path / "b/scan/P01.tsv").write_text(HEADER + ROW.format(600, 512, 390))
    (tmp_path / "b/scan/P02.tsv").write_text(HEADER + ROW.format("0.4", "NA", "NA"))
    return tmp_path / "b"


def test_jobs_are_distinguished_by_folder_and_file(folder):
    jobs = read_benchmarks(folder)
    assert jobs[["rule", "job"]].apply(tuple, axis=1).tolist() == [
        ("scan", "P01"), ("scan", "P02"), ("train", ""),
    ]  # fmt: skip
    assert jobs["seconds"].tolist() == [600, 0.4, 3600]
    assert jobs["memory_mib"].isna().tolist() == [False, True, False]


def test_the_picture_sums_up_each_rule_the_costliest_first(folder, tmp_path):
    plot_rules(read_benchmarks(folder), tmp_path / "a.svg")
    said = words(tmp_path / "a.svg")
    assert "70.0 minutes of jobs, 86 % of it train" in said
    assert [w for w in said if w in ("scan", "train")] == ["train", "scan"] * 3
    assert {"1 job, 60.0 minutes", "2 jobs, 10.0 minutes"} <= set(said)


def test_a_training_that_was_taken_up_again_costs_all_its_epochs(folder):
    for seconds, counted in ((7000, 7200), (300, 3600)):
        epochs = pd.DataFrame({"seconds": [seconds, 200]})
        assert read_benchmarks(folder, epochs)["seconds"].tolist() == [600, 0.4, counted]


@pytest.mark.parametrize("load", [237, 240, 241])
def test_no_label_of_a_tick_is_cut_at_the_edge_whatever_a_run_took(tmp_path, load):
    columns = ["rule", "job", "seconds", "memory_mib", "load_percent"]
    rows = [(rule, "", 30, 512, load) for rule in ("minikitchen_video", "scan")]
    plot_rules(pd.DataFrame(rows, columns=columns), tmp_path / "a.svg")
    assert cut(tmp_path / "a.svg") == []


def test_no_benchmark_file_at_all_is_a_picture_that_says_so(tmp_path):
    plot_rules(read_benchmarks(tmp_path / "none"), tmp_path / "a.svg")
    assert "results/benchmarks holds no file" in words(tmp_path / "a.svg")


def test_a_lost_benchmark_file_makes_no_job_run_again(demo):
    path = demo / "results/benchmarks/train.tsv"
    content = path.read_text()
    path.unlink()
    try:
        done = run_snakemake("all", "-n", "--directory", str(demo), "--configfile", *SHORT_DEMO)
    finally:
        path.write_text(content)
    assert "Nothing to be done" in done.stdout + done.stderr
