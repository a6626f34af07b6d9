"""Generates the table of settings in docs/running.md from the fields of `Settings`.

python -m service.commands.settings_table docs/running.md
"""

import sys
from pathlib import Path

from pydantic.fields import FieldInfo

from service.settings import ENV_PREFIX, Settings

_BEGIN = "<!-- settings: python -m service.commands.settings_table docs/running.md -->"
_END = "<!-- end of settings -->"


def settings_table() -> str:
    """A Markdown table with one row per setting."""
    rows = ["| variable | default | what it does |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        assert field.description, f"setting {name} has no description"
        variable = f"`{ENV_PREFIX}{name.upper()}`"
        rows.append(f"| {variable} | {_default(field)} | {field.description} |")
    return "\n".join(rows)


def with_table(text: str) -> str:
    """The page with the table placed between its two marks."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    assert begin, f"no mark {_BEGIN}"
    assert end, f"no mark {_END}"
    return f"{before}{begin}\n\n{settings_table()}\n\n{end}{after}"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    match value:
        case None:
            return "unset"
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"{value:g}"
        case int():
            return str(value)
        case str() if value:
            return f"`{value}`"
    return "empty" if not value else f"`{value}`"


def main(pages: list[str]) -> None:
    """Rewrites the table in each page that is named."""
    for page in map(Path, pages):
        page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
