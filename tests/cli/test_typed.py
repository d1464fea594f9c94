"""Whatever is typed wrongly is answered in a line that names it, and what was probably meant."""

import os
import re
import sys
from functools import partial

import pytest
import torch

from epic100.cli.program import main
from epic100.model.model_file import TrainedModel, save_model
from support.checkout import ROOT, call, epic100, python, run_snakemake, said

# The mistakes in the file `bad.yaml` of the fixture `folder`, as they are reported.
MISTAKES_IN_BAD_YAML = [
    "train.epochs is 'ten'; expected integer",
    "unknown key 'vidoes'; did you mean videos?",
]


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
def test_a_typing_mistake_is_refused_in_one_line_before_snakemake_starts(
    words, answer, folder, capsys
):
    assert main(words.split()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and answer in line
    assert not os.path.exists("nowhere")


def test_the_beginning_of_an_option_is_no_option():
    # With `--version`, the exit status is 0.
    with pytest.raises(SystemExit, match="2"):
        main(["--vers"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(partial(epic100, "run"), id="epic100 run"),
        # A user may call Snakemake without knowing of `epic100 run`.
        pytest.param(
            partial(run_snakemake, "-s", str(ROOT / "Snakefile"), "--cores", "1"), id="snakemake"
        ),
    ],
)
@pytest.mark.parametrize(
    "words, answer",
    [
        ("--cores 0", "--cores 0: no job could ever start; expected 1 or more, or all"),
        ("results/runs/foo/submission.pt", "give run=foo too, or its --configfile"),
        ("results/submision.pt", "no rule makes this; did you mean results/submission.pt?"),
        ("predict", "predict: makes several files; name them, as results/predictions/"),
        ("epochs=3", "epochs=3: no rule makes this; did you mean train.epochs=VALUE?"),
        ("train.epochs", "train.epochs: is a key of the config; expected train.epochs=VALUE"),
        ("check", "check: is a command and no target; expected epic100 check"),
    ],
)
def test_a_mistake_that_only_the_rules_can_find_is_a_line_of_the_screen(
    words, answer, program, folder
):
    demo = ["--configfile", str(ROOT / "config/demo.yaml")]
    done = program(*words.split(), "-n", *demo, cwd=folder, well=False)
    assert any(answer in line for line in said(done).splitlines())


@pytest.mark.slow
@pytest.mark.parametrize(
    "words, answers",
    [
        (
            "run -n run=../up",
            ["run is '../up'; expected up to 100 letters, digits, '.', '_' and '-'"],
        ),
        (
            "run -n videos.pattern={participant}/{vid}.MP4",
            ["expected a path with {video} in it"],
        ),
        ("run -n trian.epochs=3", ["unknown key 'trian'; did you mean train?"]),
        ("run -n export.sls.td=9 train.epochs=0", ["train.epochs is 0", "sls.td is 9; expected"]),
        ("run -n --configfile bad.yaml", MISTAKES_IN_BAD_YAML),
        ("check --configfile bad.yaml", MISTAKES_IN_BAD_YAML),
    ],
)
def test_only_the_mistakes_in_the_config_are_on_the_screen(words, answers, folder):
    done = epic100(*words.split(), cwd=folder, well=False)
    # The line `Using workflow specific profile ...` is Snakemake's.
    lines = [line for line in said(done).splitlines() if not line.startswith("Using ")]
    assert len(lines) == len(answers)
    for line, answer in zip(lines, answers, strict=True):
        assert re.match("(error: )?config: ", line) and answer in line


@pytest.mark.slow
def test_names_of_models_and_runs_are_not_read_as_yaml(folder):
    # In YAML, ` #` begins a comment, and 2026-11-30 is a date.
    model = TrainedModel(
        state_dict={},
        pairs=[(0, 1, 1)],
        num_verbs=97,
        num_nouns=300,
        config={},
        trained_on={},
    )
    save_model(model, folder / "2024 #1.pth")
    words = ["test", "2024 #1.pth", "--name", "2026-11-30", "-n", "--verbose"]
    done = said(epic100(*words, "--configfile", "config/demo.yaml", cwd=folder))
    assert f"{folder}/2024 #1.pth" in done and "results/runs/2026-11-30/metrics.json" in done


@pytest.mark.slow
@pytest.mark.parametrize(
    "target, answer",
    [
        ("results/scan/P99.tsv", "has no participant P99"),
        ("results/timeline/P01_99.json", "has no video P01_99; did you mean P01_"),
        ("results/segments/tset.txt", "no rule makes this; did you mean results/segments/t"),
    ],
)
def test_plain_snakemake_ends_with_one_line_for_a_name_that_the_sheet_does_not_have(
    target, answer, folder
):
    demo = ["--configfile", str(ROOT / "config/demo.yaml")]
    words = ["-s", str(ROOT / "Snakefile"), "-n", target, *demo]
    screen = said(run_snakemake(*words, cwd=folder, well=False))
    assert f"{target}: " in screen and answer in screen
    assert "Exception" not in screen and "Traceback" not in screen


def test_a_broken_numpy_of_a_module_is_one_line(tmp_path):
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


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    command = f"{sys.executable} -m epic100 adopt | head -1"
    done = call("sh", "-c", command, cwd=tmp_path)
    assert len(done.stdout.splitlines()) == 1 and done.stderr == ""


def test_predictions_are_no_submission(tmp_path, capsys):
    torch.save({"format": "epic100 predictions 3"}, tmp_path / "val.pt")
    command = ["submission", "check", str(tmp_path / "val.pt"), "--annotations", "a.csv"]
    assert main(command) == 1
    assert "and no submission; expected results/submission.pt" in capsys.readouterr().out
