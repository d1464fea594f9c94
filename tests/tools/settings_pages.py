"""Write the table of keys in config/README.md, and the schema for editors, from the settings.

make keys
"""

import json
import re
from pathlib import Path
from typing import Any, get_args

from epic100.settings.config import Settings
from epic100.settings.section import Section, section_of

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "config/config.schema.json"
README = ROOT / "config/README.md"
HEAD = "| key | default | meaning |\n|---|---|---|\n"
# The schema for editors leaves out these names, which only the library reads.
LIBRARY_ONLY = ("of_inputs", "sweep")


def schema() -> str:
    """Make the JSON Schema of the config, draft 2020-12."""

    def plain(node: Any) -> Any:
        """Copy a part of the schema without the names of `LIBRARY_ONLY`."""
        if isinstance(node, dict):
            return {name: plain(value) for name, value in node.items() if name not in LIBRARY_ONLY}
        return [plain(item) for item in node] if isinstance(node, list) else node

    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(head | plain(Settings.model_json_schema()), indent=1) + "\n"


def rows(section: type[Section], prefix: str = "") -> list[tuple[str, Any, str]]:
    """List the dotted name, default and meaning of every key, such as ("train.seed", 0, "...").

    A section that may be null is listed too, before its keys.
    """
    found = []
    for name, field in section.fields_by_key().items():
        inner = section_of(field)
        if inner is None or type(None) in get_args(field.annotation):
            found.append((prefix + name, field.default, field.description or ""))
        if inner is not None:
            found += rows(inner, f"{prefix}{name}.")
    return found


def key_table() -> str:
    """Make the table of all keys."""
    lines = []
    for name, default, meaning in rows(Settings):
        shown = default if isinstance(default, str) else json.dumps(default)
        linked = re.sub(r"docs/[\w.-]+\.md", r"[\g<0>](../\g<0>)", meaning).replace("|", "\\|")
        lines.append(f"| `{name}` | `{shown}` | {linked} |\n")
    return HEAD + "".join(lines)


def readme(text: str) -> str:
    """Renew the table in the text of config/README.md."""
    before, _, rest = text.partition(HEAD)
    return before + key_table() + "\n" + rest.partition("\n\n")[2]


if __name__ == "__main__":
    SCHEMA.write_text(schema(), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
