"""Check that each comment is a sentence: it begins with a capital and ends with a full stop.

`python tests/tools/comments.py [FILE...]` prints each comment that is no sentence, by default of
all files of the repository, and exits with 1 if there is one. Words for programs (`noqa`, `fmt:`,
`type:`) are no comments.
"""

import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

DIRECTIVE = re.compile(r"#\s*(noqa|fmt:|type:|pragma|!|/// |mypy:|ruff:)|#!|#$")
SENTENCE = re.compile(r"""["'`(\[{A-Z0-9~*_].*[.:?!)`]["')`]?$""", re.DOTALL)
# A text that begins so is mostly a clause.
CLAUSE = re.compile(r"(Of|What|Who|As|Which)\b")
FEWEST_WORDS = 3


def comments(path: Path) -> list[tuple[int, str]]:
    """List the comments of a file with their lines; comments on lines in a row are one."""
    found: list[tuple[int, str]] = []
    last_line = -1
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type != tokenize.COMMENT or DIRECTIVE.match(token.string):
            continue
        words = re.split(r"\s+# (?:noqa|fmt:|type:|pragma)", token.string)[0].lstrip("#: ").rstrip()
        line, column = token.start
        is_behind_code = bool(token.line[:column].strip())
        if line == last_line + 1 and not is_behind_code:
            first_line, text = found.pop()
            found.append((first_line, f"{text} {words}"))
        else:
            found.append((line, words))
        # No comment goes on with one that is behind code.
        last_line = -1 if is_behind_code else line
    return found


def tracked() -> list[str]:
    """List the files of the repository with code in Python."""
    command = ["git", "ls-files", "-z", "*.py", "*.smk", "Snakefile"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [path for path in listed.split("\0") if path and "/vendor/" not in path]


def main(paths: list[str]) -> int:
    """Print the comments that are no sentences, and return 1 if there are any."""
    wrong = 0
    for path in paths or tracked():
        for line, text in comments(Path(path)):
            if not SENTENCE.match(text) or CLAUSE.match(text) or len(text.split()) < FEWEST_WORDS:
                print(f"{path}:{line}: {text}")
                wrong += 1
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
