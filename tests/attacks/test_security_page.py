"""docs/evidence/attacks.md promises nothing that no test holds."""

import re

from support.checkout import ROOT


def test_every_row_of_what_is_not_trusted_names_tests_that_are_there():
    page = (ROOT / "docs/evidence/attacks.md").read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)", code, re.MULTILINE))
    rows = re.findall(r"^\| .*", page.partition("| from others |")[2], re.MULTILINE)
    assert len(rows) >= 20
    for row in rows:
        named = set(re.findall(r"`(test_\w+)`", row.rpartition(" | ")[2]))
        assert named and named <= there, f"{row}: {named - there}"
