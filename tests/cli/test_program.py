"""The command `epic100`: help, completions, what it hands to whom."""

import re
import sys
from importlib.metadata import version

import pytest
from snakemake.cli import get_argument_parser, parse_config

from epic100.cli.program import COMMANDS, main
from epic100.cli.workflow import snakemake_command
from epic100.settings import read_settings
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
        ("migrate list none.txt --annotations none.csv --out a.txt", "error: none.txt: "),
        # The class lists are read before the model, which takes seconds.
        ("predict v.mp4 --model m.pth --class-lists none.csv nouns.csv", "error: none.csv: "),
    ],
)
def test_a_command_ends_with_its_error_and_exit_code_1(words, answer, capsys):
    assert main(words.split()) == 1
    printed = capsys.readouterr()
    assert answer in (printed.out + printed.err).splitlines()[-1]


def test_words_for_snakemake_come_after_the_default_profile():
    words = ["results/model.pth", "--cores", "2", "-n", "--set-threads", "train=4"]
    command = snakemake_command(words)
    assert command[:4] == [sys.executable, "-P", "-m", "snakemake"]
    assert command[-8:] == [*words, "--logger", "epic100"]
    read = get_argument_parser().parse_args(command[4:])
    assert read.snakefile == str(ROOT / "Snakefile") and read.targets == ["results/model.pth"]
    assert read.cores == 2 and read.rerun_incomplete
    assert {trigger.name for trigger in read.rerun_triggers} == {"MTIME", "PARAMS", "INPUT"}


def test_a_default_profile_of_the_folder_is_read_in_place_of_ours(tmp_path, monkeypatch):
    (tmp_path / "profiles/default").mkdir(parents=True)
    (tmp_path / "profiles/default/config.yaml").write_text("cores: 1\n")
    monkeypatch.chdir(tmp_path)
    # The first words are the Python, its options, and `--snakefile` with its value.
    assert snakemake_command([])[6:8] == ["--workflow-profile", "profiles/default"]


def test_a_word_key_value_sets_a_key_of_any_depth_over_the_config_files(tmp_path):
    over = tmp_path / "over.yaml"
    over.write_text("train: {epochs: 3, ema: 0.5}")
    words = ["all", "train.ema=0.9", "--configfile", str(over), "run=long", "-n"]
    words += ["train.options={optim_wrapper.optimizer.lr: 1e-3}"]
    words += ["--config", "export.sls.pt=0", "videos.root=/a b/'c"]
    command = snakemake_command(words)
    # The words for Snakemake come first, then the keys as one value, then the logger.
    assert command[-8:-4] == ["all", "--configfile", str(over), "-n"]
    option, keys, *_ = command[-4:]
    assert option == "--config"
    config = parse_config([keys]) | {"train": {"epochs": 3, "ema": 0.5}}
    settings = read_settings(config, [over])
    assert (settings.train.epochs, settings.train.ema, settings.run) == (3, 0.9, "long")
    assert settings.train.options == {"optim_wrapper.optimizer.lr": 0.001}
    assert settings.export.sls.pt == 0 and settings.videos.root == "/a b/'c"


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
