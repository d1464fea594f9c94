"""The command `epic100`: its help, what it hands to Snakemake, and its answers to mistakes."""

import os
import re
import shlex
import sys
from functools import partial
from importlib.metadata import version
from operator import attrgetter

import pytest
import torch
from snakemake.cli import get_argument_parser, parse_config

from epic100.cli.program import COMMANDS, TARGETS, main
from epic100.cli.workflow import snakemake_command
from epic100.model.model_file import TrainedModel, save_model
from epic100.settings.config import read_settings
from support.checkout import ROOT, call, epic100, python, run_snakemake, said

DEMO = ("--configfile", str(ROOT / "config/demo.yaml"))
# The mistakes in the file `bad.yaml` of the fixture `folder`, as they are reported.
MISTAKES_IN_BAD_YAML = [
    "train.epochs is 'ten'; expected integer",
    "unknown key 'vidoes'; did you mean videos?",
]


@pytest.fixture
def printed(capsys):
    """Calls `epic100` with an option that prints a text and exits; returns the text."""

    def printed(*words: str) -> str:
        with pytest.raises(SystemExit):
            main(words)
        return capsys.readouterr().out

    return printed


def test_help_names_each_command(printed):
    help_text = printed("--help")
    for name, command in COMMANDS.items():
        assert printed(name, "--help").startswith(f"usage: epic100 {name}")
        line = rf"^    {name} +{re.escape(command.summary)}$"
        assert re.search(line, help_text, re.MULTILINE)
    assert printed("--version") == f"epic100 {version('epic100')}\n"


def test_help_of_run_lists_targets_of_rules(printed):
    files = [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    rules = "".join(path.read_text("utf-8") for path in files)
    targets = printed("run", "--help").partition("`all`):\n")[2].partition("\n\n")[0].splitlines()
    assert len(targets) == len(TARGETS) > 12
    for target in TARGETS:
        name = re.sub("P01(_01)?", "{", target.removeprefix("results"))
        assert name.partition("{")[0].replace("submission.pt", "submission.") in rules


@pytest.mark.parametrize(
    "arguments, words",
    [
        pytest.param([], "required: COMMAND", id="no command"),
        pytest.param(["--vers"], "required: COMMAND", id="the beginning of an option"),
        pytest.param(["migrate"], "required: part", id="no part"),
        pytest.param(
            ["submission", "check", "a.pt", "--split", "val", "--odd"],
            "unrecognized arguments: --odd",
            id="an unknown option",
        ),
        pytest.param(
            ["submission", "check", "a.pt"],
            "one of the arguments --split --annotations is required",
            id="none of two options",
        ),
        pytest.param(
            ["compare", "a.pt", "b.pt", "--sead=1"],
            "--sead=1; did you mean --seed?",
            id="a mistyped option",
        ),
    ],
)
def test_a_mistyped_call_ends_in_one_sentence(arguments, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "words, answer",
    [
        ("submission check none.pt --annotations none.csv", "none.pt"),
        ("submission check val.pt --annotations a.csv", "and no submission; expected results/sub"),
        # The class lists are read before the model, which takes seconds.
        ("predict v.mp4 --model m.pth --class-lists none.csv nouns.csv", "error: none.csv: "),
    ],
)
def test_a_command_ends_with_its_error(words, answer, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": "epic100 predictions 3"}, "val.pt")
    assert main(words.split()) == 1
    printed = capsys.readouterr()
    assert answer in printed.out + printed.err


def test_words_come_after_snakefile_and_default_profile():
    words = ["results/model.pth", "--cores", "2", "-n", "--set-threads", "train=4"]
    command = snakemake_command(words)
    assert command[:4] == [sys.executable, "-P", "-m", "snakemake"]
    read = get_argument_parser().parse_args(command[4:])
    assert read.snakefile == str(ROOT / "Snakefile") and read.targets == ["results/model.pth"]
    assert (read.cores, read.workflow_profile) == (2, "profiles/default")
    assert command[-7:] == [*words, "--logger=epic100"]


def test_a_default_profile_of_the_folder_is_read(tmp_path, monkeypatch):
    (tmp_path / "profiles/default").mkdir(parents=True)
    (tmp_path / "profiles/default/config.yaml").write_text("cores: 1\n")
    monkeypatch.chdir(tmp_path)
    # The first words are the Python, its options, and `--snakefile` with its value.
    assert snakemake_command([])[6:8] == ["--workflow-profile", "profiles/default"]


def config_of(*words):
    """The config that Snakemake reads from the command with these words."""
    return parse_config(get_argument_parser().parse_args(snakemake_command(words)[4:]).config)


def test_words_with_keys_become_the_option_config():
    command = snakemake_command(["all", "train.epochs=3", "-n", "train.ema=0.9", "run=long"])
    words = ["--config", 'train={"epochs": "3", "ema": "0.9"}', "run=!!str long"]
    assert command[-6:] == ["all", "-n", *words, "--logger=epic100"]
    # They may stand behind this option, too.
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
def test_a_typed_value_gets_its_key_s_type(word, value):
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
def test_values_of_snakemakes_options_are_no_keys(words):
    assert snakemake_command(words)[-1 - len(words) :] == [*words, "--logger=epic100"]


@pytest.mark.parametrize("words", [["--logger", "other"], ["--logger=other"]])
def test_another_logger_replaces_that_of_epic100(words):
    assert snakemake_command(words)[-len(words) :] == words


@pytest.mark.slow
def test_dry_running_the_demo_needs_no_folder(tmp_path):
    """It was refused as a `--directory` that is not there, which nobody had typed."""
    assert "jobs would run" in said(epic100("demo", "-n", "--cores", "1", cwd=tmp_path))


def test_completions_for_zsh_have_commands_and_options(printed):
    script = printed("--print-completion", "zsh")
    assert all(word in script for word in (*COMMANDS, "--annotations", "--train-list"))


def test_completions_for_bash_complete_a_command(tmp_path, printed):
    script = tmp_path / "epic100.bash"
    script.write_text(printed("--print-completion", "bash"))
    code = f"""source {script}; COMP_WORDS=(epic100 sub); COMP_CWORD=1; COMP_LINE='epic100 sub'
        complete -p epic100 | sed 's/.* -F \\([^ ]*\\).*/\\1/' > {tmp_path}/name
        "$(cat {tmp_path}/name)" epic100 sub epic100; echo "${{COMPREPLY[@]}}" """
    assert call("bash", "-c", code).stdout.split() == ["submission"]


def test_completions_need_no_slow_import():
    done = python("-X", "importtime", "-m", "epic100", "--print-completion", "bash")
    assert not re.search(r"\| +(torch|pandas|mmengine|snakemake)$", done.stderr, re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a model file, two config files and an empty `config/`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pth").touch()
    (tmp_path / "config").mkdir()
    entry = {"narration_id": "P01_11_0", "verb_output": torch.ones(97)}
    torch.save([entry], tmp_path / "scores.pt")
    (tmp_path / "model.py").write_text('model = dict(type="a")\n')
    (tmp_path / "latin.yaml").write_bytes("# café".encode("latin-1"))
    (tmp_path / "deep.yaml").write_text(f"train: {'[' * 3000}{']' * 3000}")
    (tmp_path / "endless.yaml").symlink_to("/dev/zero")
    (tmp_path / "bad.yaml").write_text("train:\n  epochs: ten\nvidoes: {}\n")
    return tmp_path


@pytest.mark.parametrize(
    "words, answer",
    [
        ("train", "expected epic100 run train"),
        ("features", "expected epic100 run features"),
        ("results/submission.pt", "expected epic100 run results/submission.pt"),
        ("train.epochs=3", "a key of the config; expected epic100 run train.epochs=3"),
        ("chek", "chek: no such command; did you mean epic100 check?"),
        (
            "publish",
            "publish: this command is gone; upload results/model.pth with results/model_card.md as "
            "README.md (docs/results.md)",
        ),
        ("bogus", "bogus: no such command; `epic100 --help` lists them"),
        ("run --train.epochs=3", "a key of the config has no dashes; expected KEY=VALUE"),
        ("run --profile profiles/vcs", "no such profile; did you mean profiles/vsc?"),
        ("run --configfile config/dmeo.yaml", "did you mean config/demo.yaml?"),
        ("run --configfile all", "takes every word behind it; put targets before the options"),
        ("run --configfile config", "config: is a folder; expected a config file"),
        ("run --configfile latin.yaml", "its text is not UTF-8; save it as UTF-8"),
        ("run --configfile=deep.yaml", "deep.yaml: too deep for a config"),
        ("run --configfile endless.yaml", "endless.yaml: a pipe or a device; expected a file"),
        ("run –n", "–n: begins with a long dash; expected -n"),
        ("run —configfile bad.yaml", "begins with a long dash; expected --configfile"),
        ("check Train.Epochs=3", "unknown key 'Train'; did you mean train?"),
        ("check train.epcohs=3", "did you mean train.epochs?"),
        ("check train.lr=0.1", "goes into `options`: train.options={optim_wrapper.optimizer.lr:"),
        ("check train.options={", "train.options is '{'; expected dictionary"),
        ("check --configfile config/dmeo.yaml", "did you mean config/demo.yaml?"),
        ("check --directory nowhere", "--directory nowhere: no such folder"),
        ("check --configfile model.py", "an MMEngine config goes into `train: config:`"),
        ("test modl.pth", "modl.pth: no such file; did you mean model.pth?"),
        ("test config", "config: is a folder; expected a model"),
        ("test scores.pt", "scores.pt: holds scores, and is no model; for their metrics: "),
    ],
)
def test_a_typing_mistake_is_one_line_before_snakemake(words, answer, folder, capsys):
    assert main(words.split()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and answer in line
    assert not os.path.exists("nowhere")


# A user may call Snakemake without knowing of `epic100 run`.
PLAIN = partial(run_snakemake, "-s", str(ROOT / "Snakefile"), "--cores", "1")
RUN = partial(epic100, "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    "program, words, answer",
    [
        (RUN, "--cores 0", "--cores 0: no job could ever start; expected 1 or more, or all"),
        (PLAIN, "results/runs/foo/submission.pt", "give run=foo too, or its --configfile"),
        (RUN, "results/submision.pt", "no rule makes this; did you mean results/submission.pt?"),
        (PLAIN, "predict", "predict: makes several files; name them, as results/predictions/"),
        (PLAIN, "epochs=3", "epochs=3: no rule makes this; did you mean train.epochs=VALUE?"),
        (PLAIN, "train.epochs", "train.epochs: is a key of the config; expected train.epochs=VALU"),
        (PLAIN, "check", "check: is a command and no target; expected epic100 check"),
        (PLAIN, "results/scan/P99.tsv", "results/scan/P99.tsv: "),
        (PLAIN, "results/timeline/P01_99.json", "has no video P01_99; did you mean P01_"),
        (PLAIN, "results/segments/tset.txt", "no rule makes this; did you mean results/segments/t"),
    ],
)
def test_the_rules_report_mistakes_in_one_line(program, words, answer, folder):
    screen = said(program(*words.split(), "-n", *DEMO, cwd=folder, well=False))
    assert any(answer in line for line in screen.splitlines())
    assert "Exception" not in screen and "Traceback" not in screen


@pytest.mark.slow
@pytest.mark.parametrize(
    "words, answers",
    [
        (
            "run -n run=../up trian.epochs=3",
            ["run is '../up'; expected up to", "unknown key 'trian'"],
        ),
        ("run -n --configfile bad.yaml", MISTAKES_IN_BAD_YAML),
        ("check --configfile bad.yaml", MISTAKES_IN_BAD_YAML),
    ],
)
def test_only_the_mistakes_in_the_config_are_said(words, answers, folder):
    done = epic100(*words.split(), cwd=folder, well=False)
    # The line `Using workflow specific profile ...` is Snakemake's.
    lines = [line for line in said(done).splitlines() if not line.startswith("Using ")]
    assert len(lines) == len(answers)
    for line, answer in zip(lines, answers, strict=True):
        assert re.match("(error: )?config: ", line) and answer in line


@pytest.mark.slow
@pytest.mark.parametrize("command", [("check",), ("run", "-n")], ids=" ".join)
def test_the_base_config_of_a_folder_is_read(tmp_path, command):
    """`epic100 run` read the shipped config, and `epic100 check` that of the folder."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("annotations: {val: nowhere.csv}\n")
    assert "nowhere.csv: no such file" in said(epic100(*command, cwd=tmp_path, well=False))


@pytest.mark.slow
def test_model_and_run_names_are_not_yaml(folder):
    # In YAML, ` #` begins a comment, and 2026-11-30 is a date.
    save_model(TrainedModel({}, [(0, 1, 1)], 97, 300, {}, {}), folder / "2024 #1.pth")
    words = ["test", "2024 #1.pth", "--name", "2026-11-30", "-n", "--verbose"]
    done = said(epic100(*words, "--configfile", "config/demo.yaml", cwd=folder))
    assert f"{folder}/2024 #1.pth" in done and "results/runs/2026-11-30/metrics.json" in done


def test_a_module_s_broken_numpy_is_one_line(tmp_path):
    broken = tmp_path / "numpy/__init__.py"
    broken.parent.mkdir()
    broken.write_text("raise ImportError('built for another Python')\n")
    path = f"{ROOT / 'workflow'}:{tmp_path}"
    how = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": path}, "well": False}
    for words in (["run", "-n"], ["check"]):
        (line,) = said(python("-m", "epic100", *words, **how)).splitlines()
        assert line.startswith(f"error: {broken}: cannot be imported") and "module purge" in line


def test_the_program_without_its_packages_is_one_line(tmp_path):
    how = {"cwd": tmp_path, "env": {"PYTHONPATH": str(ROOT / "workflow")}, "well": False}
    # With -S, Python does not see the installed packages.
    (line,) = said(python("-S", "-m", "epic100", "check", **how)).splitlines()
    assert line.startswith("error: epic100: not installed for ") and "`make install`" in line


def test_a_closed_pipe_is_no_error(tmp_path):
    python = shlex.quote(sys.executable)
    done = call("sh", "-c", f"{python} -m epic100 check | true", cwd=tmp_path)
    assert done.stdout == done.stderr == ""
