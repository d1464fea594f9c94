"""docs/add.md: what can be added within seconds is added here, as the page says."""

import re
from textwrap import dedent

import pytest
import torch
from pydantic import ValidationError

from epic100.prediction.encoder import encoder_class
from epic100.settings import training
from epic100.slurm.site import choose
from support.checkout import ROOT

PAGE = (ROOT / "docs/add.md").read_text(encoding="utf-8")
# The sections of the page by their headings, as `A setting`; each is a recipe for one addition.
RECIPES = dict(re.findall(r"(?ms)^## (.+?)\n(.*?)(?=^## |\Z)", PAGE))


def code_in(text):
    """The first block of code in a text, without its indentation."""
    return dedent(re.search(r"(?s)```\w+\n(.*?) *```", text)[1])


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_short_and_names_a_test_that_exists(name):
    code = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/*/test_*.py"))
    lines = [line for line in RECIPES[name].splitlines() if line and "```" not in line]
    assert len(lines) <= 11
    # The last line is as "Test: `test_name`" or "Test: none."
    last_line = re.fullmatch("Test: (?:`(.*)`|none\\.)", lines[-1])
    assert last_line and f"def {last_line[1] or ''}" in code


def test_the_line_that_the_page_gives_for_a_new_setting_works():
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


def test_the_encoder_that_the_page_shows_can_be_used(tmp_path):
    page = (ROOT / "docs/features.md").read_text(encoding="utf-8")
    text = page[page.index("An encoder of your own is a class") :]
    (tmp_path / "encoder_of_the_page.py").write_text(code_in(text))
    modules = {"folder": str(tmp_path), "imports": []}
    encoder = encoder_class("encoder_of_the_page:MeanColour", modules)
    clips = torch.zeros(2, 3, encoder.clip_len, encoder.size, encoder.size, dtype=torch.uint8)
    assert encoder("cpu")(clips).shape == (2, 3)


def test_the_file_that_the_page_gives_for_a_site_works(tmp_path):
    (tmp_path / "partitions.yaml").write_text(code_in(RECIPES["A site"]))
    site = choose("ours", "lp_a", path=tmp_path / "partitions.yaml", env={})
    assert (site.account, site.cpu.name, site.gpu.cores_per_gpu) == ("", "cpu", 16)
