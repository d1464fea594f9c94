"""Make the list of errors at the end of docs/troubleshooting.md from the code of the library.

mkdocs calls `on_page_markdown` for each page of the site (`hooks:` of mkdocs.yml).
"""

import ast
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = "<!-- the errors of the library -->"
# A user meets these classes of errors.
CLASSES = ("EpicError", "DiskError", "DiskFullError")
# A remedy begins with one of these, such as `; expected 3 to 5`.
REMEDY = re.compile(r"; |[,;:]? (?=expected )|, (?=or )|: (?=known: )")


def text(node: ast.AST) -> str:
    """Return the words of a string or f-string, with `...` for each value."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text, node.values))
    return "..."


def nodes() -> list[ast.AST]:
    """List the nodes of the syntax trees of all modules of the library."""
    files = sorted((ROOT / "workflow").rglob("*.py"))
    return [node for path in files for node in ast.walk(ast.parse(path.read_text("utf-8")))]


def texts() -> set[str]:
    """Collect all strings in the code."""
    return {text(node) for node in nodes() if isinstance(node, ast.Constant | ast.JoinedStr)}


def messages() -> list[str]:
    """List the messages of the errors of `CLASSES`."""
    calls = [node for node in nodes() if isinstance(node, ast.Call) and node.args]
    errors = [call for call in calls if getattr(call.func, "id", "") in CLASSES]
    return sorted({text(call.args[0]) for call in errors} - {"..."})


def table() -> str:
    """Make a table with a row for each message that names its remedy."""
    lines = ["| symptom and cause | what to do |", "|---|---|"]
    for message in messages():
        symptom, *remedies = REMEDY.split(message.replace("|", "\\|"), maxsplit=1)
        for remedy in remedies:
            # A symptom without a word says nothing here, and a remedy may be all values.
            if re.search("[a-z]{3}", symptom):
                words = remedy if re.search("[a-z]{3}", remedy) else "as the message says"
                lines.append(f"| {symptom} | {words} |")
    return "\n".join(lines)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table into the page that has a place for it."""
    return markdown.replace(HERE, table())


if __name__ == "__main__":
    print(table())
