"""The errors of the library, from its code: the list at the end of docs/troubleshooting.md.

mkdocs calls `on_page_markdown` for each page of the site (`hooks:` of mkdocs.yml).
"""

import ast
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = "<!-- the errors of the library -->"
OF_USERS = ("EpicError", "DiskError", "DiskFullError")
REMEDY = re.compile(r"; |[,;:]? (?=expected )|, (?=or )|: (?=known: )")
# The words of such an error come from elsewhere.
OF_ANOTHER = re.compile(r"(^|: |but )\.\.\.$")


def text(node: ast.AST) -> str:
    """The words of a text, with `...` for what differs."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    return "".join(map(text, node.values)) if isinstance(node, ast.JoinedStr) else "..."


def nodes() -> list[ast.AST]:
    """All that the library's modules are made of."""
    files = sorted((ROOT / "workflow").rglob("*.py"))
    return [node for path in files for node in ast.walk(ast.parse(path.read_text("utf-8")))]


def texts() -> set[str]:
    """All texts in the code."""
    return {text(node) for node in nodes() if isinstance(node, ast.Constant | ast.JoinedStr)}


def messages() -> list[str]:
    """What the errors say that a user can cause."""
    calls = [node for node in nodes() if isinstance(node, ast.Call) and node.args]
    named = [call for call in calls if getattr(call.func, "id", "") in OF_USERS]
    return sorted({text(call.args[0]) for call in named} - {"..."})


def silent() -> list[str]:
    """Those that name no remedy themselves."""
    return [each for each in messages() if not REMEDY.search(each) and not OF_ANOTHER.search(each)]


def table() -> str:
    """A line for each error that names its remedy."""
    lines = ["| symptom and cause | what to do |", "|---|---|"]
    for each in messages():
        what, *remedy = REMEDY.split(each.replace("|", "\\|"), maxsplit=1)
        if remedy and re.search("[a-z]{3}", what):
            said = remedy[0] if re.search("[a-z]{3}", remedy[0]) else "as the message says"
            lines.append(f"| {what} | {said} |")
    return "\n".join(lines)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with the list in its place."""
    return markdown.replace(HERE, table())


if __name__ == "__main__":
    print(table())
