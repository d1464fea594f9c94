"""Comments are sentences: each begins with a capital and ends with a full stop.

`python tests/tools/comments.py [FILE...]` prints each comment that is none, of all files of the
repository where none is named, and exits with 1 if there is one. Words for programs (`noqa`,
`fmt:`, `type:`) are no comments.
"""

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

DIRECTIVE = re.compile(r"#\s*(noqa|fmt:|type:|pragma|!|/// |mypy:|ruff:)|#!|#$")
SENTENCE = re.compile(r"""["'`(\[{A-Z0-9~*_].*[.:?!)`]["')`]?$""", re.DOTALL)
CLAUSE = re.compile(r"(Of|What|Who|As|Which)\b")
WORDS = 3


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """The comments of a file, those on lines that follow one another as one, with their line."""
    text, first, last = "", 0, -1
    own = False
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type != tokenize.COMMENT or DIRECTIVE.match(token.string):
            continue
        words = re.split(r"\s+# (?:noqa|fmt:|type:|pragma)", token.string)[0].lstrip("#: ").rstrip()
        line, column = token.start
        alone = token.line[:column].strip() == ""
        if alone and own and line == last + 1:
            text += f" {words}"
        else:
            if text:
                yield first, text
            text, first = words, line
        last, own = line, alone
    if text:
        yield first, text


def tracked() -> list[str]:
    """The files of the repository with code in Python."""
    command = ["git", "ls-files", "-z", "*.py", "*.smk", "Snakefile"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [path for path in listed.split("\0") if path and "/vendor/" not in path]


def main(paths: list[str]) -> int:
    """Print the comments that are no sentences; 1 if there are any."""
    wrong = 0
    for path in paths or tracked():
        for line, text in comments(Path(path)):
            if not SENTENCE.match(text) or CLAUSE.match(text) or len(text.split()) < WORDS:
                print(f"{path}:{line}: {text}")
                wrong += 1
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
