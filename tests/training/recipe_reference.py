"""Generates the tables of recipe settings in docs/training.md from the fields of TrainingConfig.

python -m tests.training.recipe_reference docs/training.md
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from training.config import CorpusConfig, TrainingConfig

COMMAND = "python -m tests.training.recipe_reference docs/training.md"
_BEGIN = f"<!-- recipe settings: {COMMAND} -->"
_END = "<!-- end of recipe settings -->"


def recipe_reference() -> str:
    """Returns one Markdown table per section of a recipe."""
    top, sections = _split(TrainingConfig)
    tables = [_table("Top of the file", "", "Settings before the first table.", top)]
    for name, section in sections:
        tables += _section_tables(f"[{name}]", section)
        if name == "data":
            tables += _section_tables("[[data.train]], [data.dev] and [data.test]", CorpusConfig)
    return "\n\n".join(tables)


def with_reference(page: str) -> str:
    """Returns a page with the tables between its two marks."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    assert begin, f"no mark {_BEGIN}"
    assert end, f"no mark {_END}"
    return f"{before}{begin}\n\n{recipe_reference()}\n\n{end}{after}"


def _section_tables(header: str, section: type[BaseModel]) -> Iterator[str]:
    fields, inner = _split(section)
    yield _table(f"`{header}`", header, (section.__doc__ or "").partition("\n\n")[0], fields)
    for name, table in inner:
        yield from _section_tables(f"{header[:-1]}.{name}]", table)


def _split(
    section: type[BaseModel],
) -> tuple[dict[str, FieldInfo], list[tuple[str, type[BaseModel]]]]:
    """Separates the settings of a section from the tables inside it; corpora are neither."""
    fields: dict[str, FieldInfo] = {}
    tables: list[tuple[str, type[BaseModel]]] = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            tables.append((name, kind))
        else:
            fields[name] = field
    return fields, tables


def _table(title: str, header: str, about: str, fields: dict[str, FieldInfo]) -> str:
    rows = [f"### {title}", "", about, "", "| setting | values | default | what it does |"]
    rows.append("|---|---|---|---|")
    for name, field in fields.items():
        assert field.description, f"setting {header} {name} has no description"
        default = "required" if field.is_required() else _shown(field.default)
        rows.append(f"| `{name}` | {_values(field)} | {default} | {field.description} |")
    return "\n".join(rows)


def _shown(value: Any) -> str:
    match value:
        case None:
            return "unset"
        case bool():
            return f"`{str(value).lower()}`"
        case str():
            return f"`{value}`" if value else "empty"
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def _values(field: FieldInfo) -> str:
    parts = list(_kinds(field.annotation))
    bounds = {
        sign: getattr(bound, name)
        for bound in field.metadata
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if hasattr(bound, name)
    }
    limits = ", ".join(f"{sign} {value}" for sign, value in bounds.items())
    return " or ".join(parts) + (f" {limits}" if limits else "")


def _kinds(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif get_origin(annotation) is Literal:
        yield ", ".join(f"`{choice}`" for choice in get_args(annotation))
    elif annotation in _NAMES:
        yield _NAMES[annotation]
    elif annotation is not NoneType:
        arguments = get_args(annotation)
        if CorpusConfig in arguments:
            yield "corpora" if get_origin(annotation) is tuple else "corpus"
        else:
            for argument in arguments:
                yield from _kinds(argument)


_NAMES: dict[Any, str] = {
    bool: "`true`, `false`",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
}


def main(pages: list[str]) -> None:
    """Writes the tables into each page."""
    for page in map(Path, pages):
        page.write_text(with_reference(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
