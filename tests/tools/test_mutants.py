"""The mutants of `make mutants`: changes of the library, to see whether a test fails."""

import ast

from support.checkout import ROOT
from tools.mutants import changes, draw

# Only the condition, the default and the addition may be changed. The other numbers are in types, a
# decorator, a docstring and messages.
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


def test_each_part_of_the_library_has_mutants():
    drawn = draw(ROOT, count=60, seed=3, part="*")
    folders = (ROOT / "workflow/epic100").iterdir()
    parts = {folder.name for folder in folders if any(folder.glob("*.py"))}
    assert {mutant.part for mutant in drawn} == parts
    for mutant in drawn:
        original, changed = mutant.texts(ROOT)
        assert ast.dump(ast.parse(original)) != ast.dump(ast.parse(changed)), mutant


def test_types_decorators_and_messages_are_not_changed():
    tree = ast.parse(SOURCE)
    (function,) = tree.body
    _, condition, addition, _ = function.body
    found = [(kind, node) for kind, node, _, _ in changes(tree)]
    assert found == [
        ("constant", function.args.defaults[0]),
        ("condition", condition),
        ("branch left out", condition),
        ("boolean operator", condition.test),
        ("comparison", condition.test.values[0]),
        ("arithmetic", addition),
        ("constant", addition.value),
    ]
