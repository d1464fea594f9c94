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


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_is_named_in_that_of_the_program(name, capsys):
    for words in ([name], []):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
    own, _, all_commands = capsys.readouterr().out.rpartition("usage: ")
    assert own.startswith(f"usage: epic100 {name}")
    assert re.search(rf"^    {name} +{re.escape(COMMANDS[name][0])}$", all_commands, re.MULTILINE)


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"epic100 {version('epic100')}\n"


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
def test_a_mistyped_call_is_one_sentence(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_an_error_of_a_command_is_its_last_line_and_its_exit_code(capsys):
    assert main(["submission", "check", "none.pt", "--annotations", "none.csv"]) == 1
    assert "none.pt" in capsys.readouterr().out
    words = ["list", "none.txt", "--annotations", "none.csv", "--out", "a.txt"]
    assert main(["migrate", *words]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_class_lists_are_read_before_the_model(capsys):
    lists = ["--class-lists", "verbs.csv", "nouns.csv"]
    assert main(["predict", "v.mp4", "--model", "m.pth", *lists]) == 1
    assert "verbs.csv: no such file" in capsys.readouterr().err


def test_words_of_snakemake_reach_it_in_their_order_over_those_of_the_default_profile():
    words = ["results/model.pth", "--cores", "2", "-n", "--set-threads", "train=4"]
    command = snakemake_command(words)
    assert command[:6] == [
        sys.executable,
        "-P",
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
    ]
    assert command[-8:] == [*words, "--logger", "epic100"]
    given = get_argument_parser().parse_args(command[4:])
    assert given.cores == 2 and given.rerun_incomplete and given.targets == words[:1]
    assert {trigger.name for trigger in given.rerun_triggers} == {"MTIME", "PARAMS", "INPUT"}


def test_a_default_profile_of_the_folder_is_read_in_place_of_ours(tmp_path, monkeypatch):
    (tmp_path / "profiles/default").mkdir(parents=True)
    (tmp_path / "profiles/default/config.yaml").write_text("cores: 1\n")
    monkeypatch.chdir(tmp_path)
    assert snakemake_command([])[6:8] == ["--workflow-profile", "profiles/default"]


def test_key_value_reaches_a_key_of_any_depth_over_every_file(tmp_path):
    (tmp_path / "over.yaml").write_text("train: {epochs: 3, ema: 0.5}")
    words = [
        "all",
        "train.ema=0.9",
        "--configfile",
        str(tmp_path / "over.yaml"),
        "run=long",
        "train.options={optim_wrapper.optimizer.lr: 1e-3}",
        "-n",
        "--config",
        "export.sls.pt=0",
        "videos.root=/a b/'c",
    ]
    command = snakemake_command(words)
    *rest, option, keys, _, _ = command
    assert rest[-4:] == ["all", "--configfile", str(tmp_path / "over.yaml"), "-n"]
    config = parse_config([keys]) | {"train": {"epochs": 3, "ema": 0.5}}
    settings = read_settings(config, [tmp_path / "over.yaml"])
    assert option == "--config"
    assert (settings.train.epochs, settings.train.ema, settings.run) == (3, 0.9, "long")
    assert settings.train.options == {"optim_wrapper.optimizer.lr": 0.001}
    assert settings.export.sls.pt == 0 and settings.videos.root == "/a b/'c"


@pytest.mark.parametrize("named", [["--logger", "other"], ["--logger=other"]])
def test_another_screen_may_be_asked_for(named):
    assert snakemake_command(named)[-len(named) :] == named


@pytest.mark.slow
@pytest.mark.parametrize(
    "words, said_of_it",
    [
        (["no/such/target"], "no/such/target"),
        (["run=../up"], "run is '../up'"),
    ],
)
def test_run_is_snakemake_with_its_exit_code(tmp_path, words, said_of_it):
    done = epic100(
        "run",
        "-n",
        "--cores",
        "1",
        *words,
        "--configfile",
        "config/demo.yaml",
        cwd=tmp_path,
        well=False,
    )
    assert done.returncode == 1 and said_of_it in said(done)


@pytest.mark.slow
def test_a_dry_run_of_the_demo_needs_no_folder(tmp_path):
    """It was refused as a `--directory` that is not there, which nobody had typed."""
    assert "jobs would run" in said(epic100("demo", "-n", "--cores", "1", cwd=tmp_path))


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completions_know_the_commands_and_their_options(shell, capsys):
    with pytest.raises(SystemExit):
        main(["--print-completion", shell])
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)
    assert "--annotations" in script and "--train-list" in script


def test_bash_completes_a_command_and_no_options_need_what_takes_a_second_to_import(tmp_path):
    script = tmp_path / "epic100.bash"
    done = python("-X", "importtime", "-m", "epic100", "--print-completion", "bash")
    script.write_text(done.stdout)
    assert not re.search(r"\| +(torch|pandas|snakemake)$", done.stderr, re.MULTILINE)
    code = f"""source {script}; COMP_WORDS=(epic100 sub); COMP_CWORD=1; COMP_LINE='epic100 sub'
        complete -p epic100 | sed 's/.* -F \\([^ ]*\\).*/\\1/' > {tmp_path}/name
        "$(cat {tmp_path}/name)" epic100 sub epic100; echo "${{COMPREPLY[@]}}" """
    assert call("bash", "-c", code).stdout.split() == ["submission"]
