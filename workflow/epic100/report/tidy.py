"""Make Snakemake's report safe to share: no text in it runs as code, no path shows a user's disk.

Snakemake 9 writes its data as JSON into script elements without escaping `<`. A `</script>` in a
parameter or a caption would end the element, and the text after it would run in the reader's
browser. Its tables are `data:` URLs, and their text can contain file paths as well.
"""

import base64
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from epic100.base.errors import EpicError

_DATA = re.compile(r'(<script id="[\w-]+">\s*var \w+ = )(.+)(;\s*</script>)')
_TABLE = re.compile(r"(data:text/[\w.+-]+;[^,]*;base64,)(.*)")
_PATH = re.compile(r"(?<![\w.~/:<>\\}-])~?(?:/[\w.@+=-]+){2,}/?")


def tidy(page: str, folders: Sequence[Path], user: str) -> str:
    """Escape a report's data, make its paths relative, and remove the user's name.

    Args:
        page: The report's HTML.
        folders: A path below one of them becomes relative to it. Any other path becomes `.../` and
            its last part.
        user: The user's name.

    Raises:
        EpicError: The page does not hold its data in the way of Snakemake 9.
    """
    names = [f"{folder}/" for folder in folders]
    own = re.compile(rf"(?<=[/~]){re.escape(user)}(?=/|$)")

    def plain(text: str) -> str:
        if table := _TABLE.fullmatch(text):
            shown = plain(base64.b64decode(table[2]).decode("utf-8", "replace"))
            return table[1] + base64.b64encode(shown.encode()).decode()
        if text.startswith("data:"):
            return text
        for name in names:
            text = text.replace(name, "")
        return own.sub("user", _PATH.sub(_last_part, text))

    def escaped(found: re.Match) -> str:
        data = json.dumps(_every_text(json.loads(found[2]), plain))
        return found[1] + data.replace("<", r"\u003c") + found[3]

    try:
        tidied, count = _DATA.subn(escaped, page)
    except ValueError as error:
        raise EpicError(f"the report's data is no JSON ({error})") from error
    if not count:
        raise EpicError("the report has no data in script elements, as Snakemake 9 writes it")
    return tidied


def _last_part(path: re.Match) -> str:
    return f".../{path[0].rstrip('/').rpartition('/')[2]}"


def _every_text(data: Any, change: Callable[[str], str]) -> Any:
    if isinstance(data, dict):
        return {change(key): _every_text(value, change) for key, value in data.items()}
    if isinstance(data, list):
        return [_every_text(value, change) for value in data]
    return change(data) if isinstance(data, str) else data
