"""The DAG as a user meets it: targets, dry runs, and errors in one clear line."""

import csv
import os
import shutil
import subprocess
import time

import pytest

from epic100.video.sheet import read_sheet
from support.archive import VIDEOS, configure, errors, jobs, run, said
from support.checkout import ROOT, run_snakemake

pytestmark = pytest.mark.slow


@pytest.fixture
def archive(new_archive, tmp_path):
    return new_archive(tmp_path)


def put_csvs(folder):
    """Empty ones, with which a DAG can be made, in the default config's places."""
    (folder / "annotations").mkdir()
    for name in ("train", "validation", "test_timestamps"):
        (folder / f"annotations/EPIC_100_{name}.csv").touch()


def module(config, names="", source=f'"{ROOT}/Snakefile"'):
    """A Snakefile that uses this workflow, in the form that snakedeploy 0.17.1 writes."""
    return (
        f'configfile: "{ROOT}/config/{config}"\n'
        "module epic100:\n"
        f"    snakefile: {source}\n"
        "    config: config\n"
        f"use rule * from epic100{names}\n"
    )


def test_the_official_sheet_makes_a_whole_dag_with_no_video_on_disk(tmp_path):
    sheet = read_sheet(ROOT / "config/videos.tsv")
    assert len(sheet) == 700
    put_csvs(tmp_path)
    done = run_snakemake("all", "-n", "--directory", str(tmp_path))
    assert done.returncode == 0, said(done)
    assert jobs(done)["scan"] == len({video.participant_id for video in sheet}) == 37
    dag = run_snakemake("results/submission.pt", "--rulegraph", "--directory", str(tmp_path))
    assert dag.returncode == 0 and dag.stdout.startswith("digraph"), dag.stderr
    for rule in ("annotate", "scan", "clean", "train", "predict", "export"):
        assert rule in dag.stdout


def test_each_board_is_one_target_with_a_split_and_a_model_of_its_own(tmp_path):
    put_csvs(tmp_path)
    both, test = tmp_path / "val.yaml", ROOT / "config/trainval.yaml"
    both.write_text("export: {split: val}\n")
    for target, config, split in (
        ("pt", None, "val"), ("zip", None, "test"), ("zip", both, "val"), ("zip", test, "test"),
    ):  # fmt: skip
        config = ["--configfile", str(config)] if config else []
        done = run_snakemake(f"results/submission.{target}", "-n", "--directory", str(tmp_path),
                             *config)  # fmt: skip
        assert done.returncode == 0, said(done)
        assert f"Submission of {split}" in said(done) and f"Predict {split}" in said(done)
        assert jobs(done)["predict"] == jobs(done)["export"] == jobs(done)["train"] == 1
        learned = "trainval" if str(test) in config else "train"
        assert f"Train on results/clean/{learned}.txt" in said(done)


def test_the_vsc_profile_sends_scans_to_cores_and_training_to_a_gpu(tmp_path):
    put_csvs(tmp_path)
    done = run_snakemake("all", "-n", "--printshellcmds", "--verbose", "--profile", "profiles/vsc",
                         "--directory", str(tmp_path))  # fmt: skip
    assert done.returncode == 0, said(done)


@pytest.mark.parametrize("changes, words", [
    ({"trian": {"epochs": 3}}, "unknown key 'trian'; did you mean 'train'?"),
    ({"train": {"epoch": 3}}, "unknown key 'train.epoch'; did you mean 'epochs'?"),
    ({"train": {"epochs": "three"}}, "train.epochs is 'three'"),
    ({"clean": {"policy": "frame"}}, "clean.policy is 'frame'"),
    ({"videos": {"root": "archive", "sheet": "nowhere.tsv"}}, "nowhere.tsv: no such file"),
])  # fmt: skip
def test_a_wrong_config_is_one_sentence_that_names_the_key(archive, changes, words):
    configure(archive, **changes)
    done = run(archive, "all", "-n")
    assert done.returncode != 0
    assert words in said(done)


def test_a_sheet_with_a_video_twice_names_both_lines(archive):
    sheet = archive / "sheet.tsv"
    lines = sheet.read_text().splitlines(keepends=True)
    sheet.write_text("".join([*lines, lines[1]]))
    done = run(archive, "all", "-n")
    assert done.returncode != 0
    assert "line 5: video_id P01_01 is on line 2 already" in said(done)


def test_a_bad_csv_stops_its_rule_with_one_line_and_leaves_nothing_behind(archive):
    path = archive / "csv/EPIC_100_validation.csv"
    table = list(csv.DictReader(path.open()))
    table[1]["noun_class"] = "300"
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    done = run(archive, "results/segments/val.txt", "results/segments/train.txt", "--keep-going")
    assert done.returncode != 0
    (line,) = errors(done)
    assert "line 3" in line and "noun_class: '300'" in line and "0 to 299" in line
    assert not (archive / "results/segments/val.txt").exists()
    assert (archive / "results/segments/train.txt").exists()  # what was finished is kept


def test_an_empty_clean_list_stops_before_training_and_says_where_to_look(archive):
    shutil.rmtree(archive / "archive/P01")
    VIDEOS[1].path(archive / "archive").unlink()
    done = run(archive, "results/clean/pairs.tsv")
    assert done.returncode != 0
    assert "no labelled train segment is left after cleaning" in said(done)
    assert "dropped.tsv" in said(done)
    assert not (archive / "results/clean/pairs.tsv").exists()


@pytest.mark.parametrize("content, words", [
    (b"not a model", "not a model that this workflow wrote"),
    (b"", "not a model that this workflow wrote"),
])  # fmt: skip
def test_an_unreadable_checkpoint_stops_prediction_in_one_line(
    clean_archive, tmp_path, content, words
):
    archive = clean_archive(tmp_path)
    model = archive / "results/model.pth"
    model.write_bytes(content)
    os.utime(model, (time.time() + 1, time.time() + 1))
    done = run(archive, "results/predictions/val.pt", "--allowed-rules", "predict")
    assert done.returncode != 0
    (line,) = errors(done)
    assert words in line and "results/model.pth" in line
    assert not (archive / "results/predictions/val.pt").exists()


def test_the_report_on_a_model_from_elsewhere_trains_none_for_its_curves(archive):
    (archive / "old.pth").touch()
    configure(archive, predict={"model": "old.pth"})
    planned = jobs(run(archive, "results/report.html", "-n"))
    assert planned["report"] == planned["figures_results"] == 1
    assert not {"train", "figures_training"} & set(planned)


def test_asking_for_a_split_that_the_config_lacks_names_the_key(archive):
    done = run(archive, "results/segments/test.txt", "-n")
    assert done.returncode != 0
    assert "no `annotations: test:`" in said(done)


def test_another_workflow_can_use_this_one_as_a_module(tmp_path):
    (tmp_path / "Snakefile").write_text(
        module("demo.yaml", " as epic100_*") + "rule mine:\n"
        "    default_target: True\n"
        '    input: "results/submission.pt"\n'
    )
    done = run_snakemake("-n", "--cores", "1", cwd=tmp_path)
    assert done.returncode == 0, said(done)
    assert {"mine", "epic100_train", "epic100_export"} <= set(jobs(done))


@pytest.mark.parametrize("as_module", [False, True])
def test_resources_that_the_site_would_not_have_stop_a_run_before_its_first_job(
    tmp_path, as_module
):
    put_csvs(tmp_path)
    (tmp_path / "Snakefile").write_text(module("config.yaml"))
    snakefile = tmp_path / "Snakefile" if as_module else ROOT / "Snakefile"
    done = run_snakemake("results/segments/val.txt", "--snakefile", str(snakefile), "--profile",
                         str(ROOT / "profiles/vsc"), cwd=tmp_path)  # fmt: skip
    assert done.returncode != 0
    assert "Nothing was submitted" in said(done) and "set yours, or EPIC100_ACCOUNT" in said(done)


def test_a_deployment_takes_what_ships_from_the_host_and_from_the_package(tmp_path, monkeypatch):
    hosted, mine = tmp_path / "host/team/epic100", tmp_path / "mine"
    hosted.mkdir(parents=True)
    for name in ("Snakefile", "config", "rules", "workflow"):
        (shutil.copy if name == "Snakefile" else shutil.copytree)(ROOT / name, hosted / name)
    author = ["-c", "user.name=team", "-c", "user.email=team@example.org"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run(["git", *author, *command], cwd=hosted, check=True)
    (tmp_path / "gitconfig").write_text(
        f'[url "file://{tmp_path}/host/"]\n\tinsteadOf = https://github.com/\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (mine / "workflow").mkdir(parents=True)
    (mine / "workflow/Snakefile").write_text(
        module("demo.yaml", source='github("team/epic100", path="Snakefile", branch="main")')
    )
    done = run_snakemake("-n", "--cores", "1", cwd=mine)
    assert done.returncode == 0, said(done)
    assert {"scan", "train", "export", "report"} <= set(jobs(done))
