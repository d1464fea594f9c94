"""The faults that `make mutants` makes."""

import ast
from pathlib import Path

from support.checkout import ROOT
from tools.mutants import Mutant, draw, mutants, nearest

SOURCE = b'''
@cached(size=1)
def first(rows: Rows[2], least: int = 3) -> Table[4]:
    """Has 5 lines."""
    if least <= rows and rows.all():  # \xc3\xa4
        log.info("%s", 6 + rows)
        raise ValueError(f"{rows + 7} or {8 if rows else 9}")
    least += 10
    return None
'''


def test_mutants_are_of_every_part_and_each_is_another_program_that_python_can_read():
    drawn = draw(ROOT, 60, 3, "*")
    assert drawn == draw(ROOT, 60, 3, "*") != draw(ROOT, 60, 4, "*")
    assert {mutant.part for mutant in drawn} == {
        path.name for path in (ROOT / "workflow/epic100").iterdir() if any(path.glob("*.py"))
    }
    for mutant in drawn:
        assert ast.dump(ast.parse(mutant.text)) != ast.dump(ast.parse(mutant.source))


def test_the_nearest_tests_are_those_of_the_module_s_name_then_of_its_part_then_its_users():
    mutant = Mutant(Path("workflow/epic100/video/reader.py"), b"", "", 0, 0, "")
    first, *others, last = nearest(ROOT, mutant)
    assert first == str(ROOT / "tests/video/test_reader.py") and last == "tests/behaviour"
    folders = [Path(file).parent.name for file in others]
    own = folders.count("video")
    assert own > 3 and set(folders[:own]) == {"video"}
    assert "clips" in folders[own:] and "slurm" not in folders


def test_types_decorators_and_what_is_said_stay_as_they_are(tmp_path):
    path = Path("workflow/epic100/part/module.py")
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(SOURCE)
    found = {(m.kind, SOURCE[m.start : m.stop].decode(), m.new) for m in mutants(tmp_path, path)}
    test, body = "least <= rows and rows.all()", SOURCE.decode()[SOURCE.decode().index("log") :]
    assert found == {
        ("constant", "3", "4"),
        ("constant", "10", "11"),
        ("comparison", "<=", "<"),
        ("boolean operator", "and", "or"),
        ("arithmetic", "+", "-"),
        ("condition", test, f"not ({test})"),
        ("branch left out", body[: body.index("\n    least")], "pass"),
    }
