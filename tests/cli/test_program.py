"""The command `epic100`: help, completions, what it hands to whom."""

import re
import sys
from importlib.metadata import version
from operator import attrgetter

import pytest
from snakemake.cli import get_argument_parser, parse_config

from epic100.cli.program import COMMANDS, TARGETS, main
from epic100.cli.workflow import snakemake_command
from epic100.settings.config import read_settings
from support.checkout import ROOT, call, epic100, python, said


@pytest.fixture
def printed(capsys):
    """Calls `epic100` with an option that prints a text and exits; returns the text."""

    def printed(*words: str) -> str:
        with pytest.raises(SystemExit):
            main(words)
        return capsys.readouterr().out

    return printed


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_the_program_and_of_the_command_name_each_command(name, printed):
    assert printed(name, "--help").startswith(f"usage: epic100 {name}")
    line = rf"^    {name} +{re.escape(COMMANDS[name][0])}$"
    assert re.search(line, printed("--help"), re.MULTILINE)


def test_the_help_of_run_lists_targets_that_rules_make(printed):
    rules = "".join(path.read_text("utf-8") for path in (ROOT / "rules").glob("*.smk"))
    rules += (ROOT / "Snakefile").read_text("utf-8")
    targets = printed("run", "--help").partition("`all`):\n")[2].partition("\n\n")[0].splitlines()
    assert len(targets) == len(TARGETS) > 12
    for target in TARGETS:
        name = re.sub("P01(_01)?", "{", target.removeprefix("results"))
        assert name.partition("{")[0].replace("submission.pt", "submission.") in rules


def test_the_version_is_that_of_the_package(printed):
    assert printed("--version") == f"epic100 {version('epic100')}\n"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "required: COMMAND"),
        (
            ["submission", "check", "a.pt", "--split", "val", "--odd"],
            "unrecognized arguments: --odd",
        ),
        (["compare", "a.pt", "b.pt", "--sead=1"], "--sead=1; did you mean --seed?"),
        (["migrate"], "required: part"),
    ],
)
def test_a_mistyped_call_ends_with_one_sentence(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "words, answer",
    [
        ("submission check none.pt --annotations none.csv", "none.pt"),
        # The class lists are read before the model, which takes seconds.
        ("predict v.mp4 --model m.pth --class-lists none.csv nouns.csv", "error: none.csv: "),
    ],
)
def test_a_command_ends_with_its_error_and_exit_code_1(words, answer, capsys):
    assert main(words.split()) == 1
    printed = capsys.readouterr()
    assert answer in (printed.out + printed.err).splitlines()[-1]


def test_words_for_snakemake_come_after_the_snakefile_and_the_default_profile():
    words = ["results/model.pth", "--cores", "2", "-n", "--set-threads", "train=4"]
    command = snakemake_command(words)
    assert command[:4] == [sys.executable, "-P", "-m", "snakemake"]
    read = get_argument_parser().parse_args(command[4:])
    assert read.snakefile == str(ROOT / "Snakefile") and read.targets == ["results/model.pth"]
    assert (read.cores, read.workflow_profile) == (2, "profiles/default")
    assert command[-7:] == [*words, "--logger=epic100"]


def test_a_default_profile_of_the_folder_is_read_in_place_of_ours(tmp_path, monkeypatch):
    (tmp_path / "profiles/default").mkdir(parents=True)
    (tmp_path / "profiles/default/config.yaml").write_text("cores: 1\n")
    monkeypatch.chdir(tmp_path)
    # The first words are the Python, its options, and `--snakefile` with its value.
    assert snakemake_command([])[6:8] == ["--workflow-profile", "profiles/default"]


def config_of(*words):
    """The config that Snakemake reads from the command with these words."""
    return parse_config(get_argument_parser().parse_args(snakemake_command(words)[4:]).config)


def test_a_word_key_value_is_a_value_of_the_option_config():
    command = snakemake_command(["all", "train.epochs=3", "-n", "train.ema=0.9", "run=long"])
    words = ["--config", 'train={"epochs": "3", "ema": "0.9"}', "run=!!str long"]
    assert command[-6:] == ["all", "-n", *words, "--logger=epic100"]


def test_keys_may_stand_behind_the_option_config_too():
    words = ["--config", "train.epochs=3", "train={ema: 0.9}", "-n"]
    assert config_of(*words) == {"train": {"epochs": "3", "ema": "0.9"}}


@pytest.mark.parametrize(
    "word, value",
    [
        pytest.param("run=2026-11-30", "2026-11-30", id="date"),
        pytest.param("run=1e3", "1e3", id="name like a number"),
        pytest.param("run=on", "on", id="name like a boolean"),
        pytest.param("run='a'", "a", id="quotes"),
        pytest.param("run=null", None, id="null"),
        pytest.param(
            "videos.pattern={participant}/{video}.mkv", "{participant}/{video}.mkv", id="braces"
        ),
        pytest.param("videos.root=/a #b", "/a #b", id="no comment"),
        pytest.param("videos.root=a: b", "a: b", id="no section"),
        pytest.param("videos.root=/a b/'c", "/a b/'c", id="apostrophe"),
        pytest.param("annotations.test=null", None, id="no file"),
        pytest.param("train.load_from=", None, id="nothing"),
        pytest.param("train.ema=1e-3", 0.001, id="number"),
        pytest.param("train.precision=bf16", "bf16", id="word"),
        pytest.param("predict.models=[a.pth, 'b #c.pth']", ["a.pth", "b #c.pth"], id="list"),
        pytest.param("predict.crops=3", 3, id="number of a choice"),
        pytest.param("predict.crops=whole", "whole", id="word of a choice"),
        pytest.param("export.sls.pt=0", 0, id="three levels"),
        pytest.param("train.options={a.b: [1, {c: true}]}", {"a.b": [1, {"c": True}]}, id="option"),
    ],
)
def test_a_typed_value_has_the_type_of_its_key(word, value):
    settings = read_settings(config_of(word))
    assert attrgetter(word.partition("=")[0])(settings) == value


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--set-threads", "train=4"], id="threads"),
        pytest.param(["--resources", "download=2", "mem_mb=max(2, 3.5)"], id="resources"),
        pytest.param(["--set-resources", "train:slurm_partition=gpu.a100"], id="of a rule"),
        pytest.param(["--default-resources", "slurm_extra='--qos=a.b'"], id="default"),
        pytest.param(["--storage-s3-endpoint-url=https://a.b?c=d"], id="URL"),
    ],
)
def test_values_of_snakemakes_own_options_are_no_keys(words):
    assert snakemake_command(words)[-1 - len(words) :] == [*words, "--logger=epic100"]


@pytest.mark.slow
@pytest.mark.parametrize("command", [("check",), ("run", "-n")], ids=" ".join)
def test_the_base_config_of_a_folder_is_the_one_that_is_read_there(tmp_path, command):
    """`epic100 run` read the shipped config, and `epic100 check` that of the folder."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("annotations: {val: nowhere.csv}\n")
    assert "nowhere.csv: no such file" in said(epic100(*command, cwd=tmp_path, well=False))


@pytest.mark.parametrize("words", [["--logger", "other"], ["--logger=other"]])
def test_another_logger_replaces_that_of_epic100(words):
    assert snakemake_command(words)[-len(words) :] == words


@pytest.mark.slow
def test_a_dry_run_of_the_demo_needs_no_folder(tmp_path):
    """It was refused as a `--directory` that is not there, which nobody had typed."""
    assert "jobs would run" in said(epic100("demo", "-n", "--cores", "1", cwd=tmp_path))


def test_the_completions_for_zsh_have_all_commands_and_options(printed):
    script = printed("--print-completion", "zsh")
    assert all(word in script for word in (*COMMANDS, "--annotations", "--train-list"))


def test_the_completions_for_bash_complete_a_command(tmp_path, printed):
    script = tmp_path / "epic100.bash"
    script.write_text(printed("--print-completion", "bash"))
    code = f"""source {script}; COMP_WORDS=(epic100 sub); COMP_CWORD=1; COMP_LINE='epic100 sub'
        complete -p epic100 | sed 's/.* -F \\([^ ]*\\).*/\\1/' > {tmp_path}/name
        "$(cat {tmp_path}/name)" epic100 sub epic100; echo "${{COMPREPLY[@]}}" """
    assert call("bash", "-c", code).stdout.split() == ["submission"]


def test_completions_are_printed_without_an_import_that_takes_a_second():
    done = python("-X", "importtime", "-m", "epic100", "--print-completion", "bash")
    assert not re.search(r"\| +(torch|pandas|mmengine|snakemake)$", done.stderr, re.MULTILINE)
