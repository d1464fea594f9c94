"""The docs: links lead to files, commands have options that exist, what they show works."""

import os
import re
import shlex
import shutil
from contextlib import chdir
from pathlib import Path
from textwrap import dedent

import griffe
import pytest
import torch
from pydantic import ValidationError
from snakemake.cli import parse_args

from epic100.cli.program import COMMANDS, build_parser
from epic100.prediction.encoder import encoder_class
from epic100.settings import training
from epic100.settings.config import Settings
from epic100.slurm.site import choose
from support.checkout import ROOT, SHORT_DEMO, call, epic100
from tools import error_list, settings_pages

pytestmark = pytest.mark.slow

PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("[A-Z]*.md"), *ROOT.glob("[a-z]*/README.md")]
)
WITH_BIN = os.environ | {"PATH": f"{Path(os.sys.executable).parent}:{os.environ['PATH']}"}


def commands(page: Path) -> list[str]:
    """Commands of the page's `sh` blocks, a line each, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    # The value of a key may be quoted over several lines.
    blocks = [re.sub(r"='[^']*'", lambda v: v[0].replace("\n", " "), block) for block in blocks]
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert "://" in link or (page.parent / link).exists(), link


def test_pages_that_the_code_names_are_there():
    found = call("git", "grep", "-hoE", r"docs/[a-z/_-]+\.md").stdout.split()
    assert sorted({page for page in found if not (ROOT / page).exists()}) == []


def docstrings(part: griffe.Object):
    """Yield the docstrings of a package, and of all that is in it."""
    if part.docstring:
        yield part.docstring
    for member in part.members.values():
        if not member.is_alias:
            yield from docstrings(member)


def test_the_docs_site_can_read_each_docstring(caplog):
    package = griffe.load("epic100", search_paths=[ROOT / "workflow"], docstring_parser="google")
    read = [docstring.parsed for docstring in docstrings(package)]
    assert len(read) > 1000 and caplog.messages == []


def unknown_options(words: list[str]) -> list[str]:
    """The options of a command that its program does not know, where the program is ours.

    Snakemake's parser ends the process at an unknown option instead.
    """
    # The words behind `epic100 run` are options of Snakemake, as those behind `snakemake` are.
    before = "run" if "epic100" in words and "run" in words else "snakemake"
    if before in words:
        # The options name files of the repository.
        with chdir(ROOT):
            parse_args(words[words.index(before) + 1 :])
    elif words[0] == "epic100" and words[1] in COMMANDS:
        _, unknown = build_parser(words[1:])[0].parse_known_args(words[1:])
        return unknown
    return []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_options_that_exist(page):
    for line in commands(page):
        # Only the first command of a pipe is looked at.
        words = shlex.split(line.split("|")[0], comments=True)
        assert unknown_options(words) == [], line


def test_named_keys_are_in_the_config():
    keys = {tuple(name.split(".")[:2]) for name, *_ in settings_pages.rows(Settings)}
    sections = {key[0] for key in keys if len(key) > 1}
    # The changelog names old keys.
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    text = " ".join(page.read_text(encoding="utf-8") for page in pages)
    named = re.findall(r"`(\w+): {?(\w+):", text) + re.findall(r"[`' ](\w+)\.(\w+)=", text)
    assert len(named) > 50
    assert [pair for pair in named if pair[0] in sections and pair not in keys] == []


@pytest.mark.thorough
def test_the_readme_s_first_commands_work(demo, tmp_path):
    activate, everything, one_file, graph, again = commands(ROOT / "README.md")[1:6]
    assert activate == ". .venv/bin/activate" and one_file.partition("  ")[0] in again
    folder = shutil.copytree(demo, tmp_path / "demo")
    options = shlex.join(["--directory", str(folder), "--configfile", *SHORT_DEMO])

    def said_by(command: str, more: str = "") -> str:
        words, pipe, rest = command.partition("  #")[0].partition(" |")
        return call("sh", "-c", f"{words} {options} {more}{pipe}{rest}", env=WITH_BIN).stdout

    assert "Nothing to be done" in said_by(everything, "-n")
    assert "Nothing to be done" in said_by(one_file, "-n")
    assert said_by(graph.partition(" |")[0]).startswith("digraph")
    # After a scan that failed there is neither its table nor what follows from all tables.
    shutil.rmtree(folder / "results/clean")
    (folder / "results/submission.pt").unlink()
    (folder / "results/scan/P02.tsv").unlink()
    planned = said_by(again, "-n")
    assert set(re.findall(r"(?m)^scan +(\d+)", planned)) == {"1"}


@pytest.mark.parametrize(
    "name, head",
    [
        ("docs/evidence/attacks.md", "| from others |"),
        ("SECURITY.md", "| what comes from others |"),
    ],
    ids=["attacks", "security"],
)
def test_rows_of_untrusted_input_name_tests(name, head):
    page = (ROOT / name).read_text(encoding="utf-8").partition("## What is not promised")[0]
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    tests = set(re.findall(r"^def (test_\w+)", code, re.MULTILINE))
    rows = re.findall(r"^\| .*", page.partition(head)[2], re.MULTILINE)
    assert rows
    for row in rows:
        named = set(re.findall(r"`(test_\w+)`", row.rpartition(" | ")[2]))
        assert named and named <= tests, f"{row}: {named - tests}"


@pytest.mark.thorough
def test_the_tutorial_can_be_walked(demo, tmp_path):
    shutil.copytree(demo, tmp_path / "demo")
    walked = 0
    dry_runs = []
    for line in commands(ROOT / "docs/tutorial.md"):
        if line in ("make demo", ". .venv/bin/activate"):
            # The fixture has run the demo with this Python.
            continue
        command = re.sub(r"(?<![\w/.])demo(?=[/ ]|$)", shlex.quote(f"{tmp_path}/demo"), line)
        command = command.replace(SHORT_DEMO[0], " ".join(SHORT_DEMO))
        if line.startswith("epic100 "):
            done = epic100(*shlex.split(command, comments=True)[1:])
        else:
            done = call("sh", "-c", command, env=WITH_BIN)
        walked += 1
        if "all -n" in line:
            dry_runs.append(done.stdout)
    assert walked > 8
    page = (tmp_path / "demo/results/browse/data.js").read_text(encoding="utf-8")
    assert '"name":"default"' in page and '"name":"views"' in page
    assert '"call":"epic100 run --directory ' in page and " --configfile config/demo.yaml" in page
    damaged, mended, views = dry_runs
    assert re.search(r"(?m)^  scan +1 ", damaged) and re.search(r"(?m)^  train +1 ", damaged)
    assert "Nothing to be done" in mended
    assert re.search(r"(?m)^  predict +2 ", views) and "\n  train " not in views


def test_what_troubleshooting_quotes_is_said():
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    table = page.partition("## Messages of the workflow")[2].partition("\n## ")[0]
    cells = [row.split(" | ")[0] for row in table.splitlines() if row.startswith("| `")]
    quotes = [quote for cell in cells for quote in re.findall("`(.+?)`", cell)]
    parts = [part for quote in quotes for part in quote.split("...") if len(part) > 4]
    assert len(parts) >= len(cells) > 20
    said = error_list.texts()
    assert [part for part in parts if not any(part in text for text in said)] == []


def test_mmaction2_s_tool_is_where_docs_look(tmp_path):
    where, use = (line for line in commands(ROOT / "docs/training.md") if "tools" in line)
    script = f"{where}\nls {use.split()[1]}"
    assert call("sh", "-c", script, cwd=tmp_path, env=WITH_BIN).stdout.endswith("/train.py\n")


PAGE = (ROOT / "docs/add.md").read_text(encoding="utf-8")
# The sections of the page by their headings, as `A setting`; each is a recipe for one addition.
RECIPES = dict(re.findall(r"(?ms)^## (.+?)\n(.*?)(?=^## |\Z)", PAGE))


def code_in(text):
    """The first block of code in a text, without its indentation."""
    return dedent(re.search(r"(?s)```\w+\n(.*?) *```", text)[1])


def test_each_recipe_names_an_existing_test():
    code = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/*/test_*.py"))
    named = re.findall(r"(?m)^Test: `(\w+)`$", PAGE)
    assert len(named) == len(RECIPES)
    assert [name for name in named if f"def {name}" not in code] == []


def test_the_page_s_setting_line_works():
    # This is the section of docs/add.md with this heading.
    line = code_in(RECIPES["A setting"])
    name = line.partition(":")[0]
    # The line is executed where the settings of the training are defined, in a section with all of
    # these and the new one.
    variables = dict(vars(training))
    exec(f"class WithNewSetting(TrainSettings):\n    {line}", variables)
    section = variables["WithNewSetting"]
    assert section.fields_by_key().keys() >= {name, "epochs"}
    assert section.model_validate({name: 3}).model_dump()[name] == 3
    # The line states `gt=0`, so the new setting must be larger than 0.
    with pytest.raises(ValidationError, match=name):
        section.model_validate({name: -3})


def test_the_page_s_encoder_works(tmp_path):
    page = (ROOT / "docs/features.md").read_text(encoding="utf-8")
    text = page[page.index("An encoder of your own is a class") :]
    (tmp_path / "encoder_of_the_page.py").write_text(code_in(text))
    modules = {"folder": str(tmp_path), "imports": []}
    encoder = encoder_class("encoder_of_the_page:MeanColour", modules)
    clips = torch.zeros(2, 3, encoder.clip_len, encoder.size, encoder.size, dtype=torch.uint8)
    assert encoder("cpu")(clips).shape == (2, 3)


def test_the_page_s_site_file_works(tmp_path):
    (tmp_path / "partitions.yaml").write_text(code_in(RECIPES["A site"]))
    site = choose("ours", "lp_a", path=tmp_path / "partitions.yaml", env={})
    assert (site.account, site.cpu.name, site.gpu.cores_per_gpu) == ("", "cpu", 16)
