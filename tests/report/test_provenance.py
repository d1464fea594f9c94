"""Snakemake's own report: what it lists, and what it must not show."""

import getpass
import json
import re
from contextlib import closing
from pathlib import Path

import pytest

from epic100.base.errors import EpicError
from epic100.report.provenance import write_provenance
from support.checkout import ROOT
from support.chromium import Page, need_chromium


@pytest.fixture(scope="module")
def provenance(demo):
    return demo / "results/provenance.html"


def data_of(path):
    found = re.findall(
        r'<script id="([\w-]+)">\s*var \w+ = (.+);\s*</script>', path.read_text("utf-8")
    )
    return {name: json.loads(text) for name, text in found}


def test_tables_and_rules_are_listed(provenance):
    data = data_of(provenance)
    tables = {row["labels"]["table"] for row in data["results"].values()}
    assert {"dropped segments", "every class", "summary", "scan of P22"} <= tables
    assert {"scan", "clean", "train", "export"} <= set(data["rules"])


def test_no_absolute_path_is_named(demo, provenance):
    texts = json.dumps([data for name, data in data_of(provenance).items() if name != "packages"])
    for private in (str(demo), str(ROOT), str(Path.home()) + "/", f"/{getpass.getuser()}/"):
        assert private not in texts


def test_it_asks_no_network_for_anything(provenance, tmp_path):
    need_chromium()
    with closing(Page(provenance.as_uri(), tmp_path / "profile")) as page:
        assert page.run("return document.title") == "Snakemake Report"
        assert {url.partition(":")[0] for url in page.asked} <= {"file", "data"}
    assert provenance.stat().st_size < 8 * 2**20


def test_a_report_that_cannot_be_made_is_one_line_after_snakemakes_words(tmp_path, caplog):
    caplog.set_level("INFO", "epic100")
    out = tmp_path / "provenance.html"
    with pytest.raises(EpicError, match=r"not written: Snakemake ended with code 1") as caught:
        write_provenance(
            ["no_such_file"], out, snakefile="Snakefile",
            config={"annotations": {"train": "a.csv", "val": "b.csv"}, "videos": {"root": "v"}},
        )  # fmt: skip
    assert "\n" not in str(caught.value) and "no_such_file" in caplog.text
    assert not out.exists()
