"""The faults that `make mutants` makes."""

import ast

from support.checkout import ROOT
from tools.mutants import changes, draw

SOURCE = '''
@cached(size=1)
def first(rows: Rows[2], least: int = 3) -> Table[4]:
    """Has 5 lines."""
    if least <= rows and rows.all():
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
        sound, changed = (ast.dump(ast.parse(text)) for text in mutant.texts(ROOT))
        assert sound != changed


def test_types_decorators_and_what_is_said_stay_as_they_are():
    tree = ast.parse(SOURCE)
    (function,) = tree.body
    branch, added, _ = function.body[1:]
    assert [(kind, node, field) for kind, node, field, _ in changes(tree)] == [
        ("constant", function.args.defaults[0], "value"),
        ("condition", branch, "test"),
        ("branch left out", branch, "body"),
        ("boolean operator", branch.test, "op"),
        ("comparison", branch.test.values[0], "ops"),
        ("arithmetic", added, "op"),
        ("constant", added.value, "value"),
    ]
