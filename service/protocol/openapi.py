"""Descriptions for the OpenAPI document of what FastAPI cannot find out by itself.

The compatible APIs read their fields and word their errors without FastAPI's models.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from service.errors import ClientGone
from service.protocol.dialects import Dialect
from service.protocol.error_table import ERROR_TABLE, Refusal

_FORM = "application/x-www-form-urlencoded"
_BODY_TYPES = ("application/json", _FORM, "multipart/form-data")
# Errors of the framework and of ServerErrorMiddleware, beside the table.
_OTHERS = ((404, "not_found"), (405, "method_not_allowed"), (500, "internal_error"))

Responses = dict[int | str, dict[str, Any]]


def documented_body(kind: type[BaseModel]) -> dict[str, Any]:
    """A body whose fields may come as JSON or as a form."""
    schema = kind.model_json_schema()
    return {"requestBody": {"content": {name: {"schema": schema} for name in _BODY_TYPES}}}


def documented_query(kind: type[BaseModel]) -> dict[str, Any]:
    """Fields that come in the query."""
    schema = kind.model_json_schema()
    required = schema.get("required", ())
    return {
        "parameters": [
            {"name": name, "in": "query", "required": name in required, "schema": field}
            for name, field in schema["properties"].items()
        ]
    }


def documented_errors(dialect: Dialect) -> Responses:
    """Every error that a client of an API may meet: status, its codes, the shape of the body."""
    table = [(status, code) for kind, status, code, _ in ERROR_TABLE if kind is not ClientGone]
    codes: dict[int, set[str]] = {}
    for status, code in (*table, *_OTHERS):
        codes.setdefault(dialect.statuses.get(code, status), set()).add(code)
    return {status: _response(dialect, codes[status]) for status in sorted(codes)}


def _response(dialect: Dialect, codes: Iterable[str]) -> dict[str, Any]:
    description = ", ".join(sorted(codes))
    if dialect.error_model is not None:
        return {"model": dialect.error_model, "description": description}
    example = dialect.error_body(Refusal(400, "code", "what went wrong, and what to do about it"))
    return {
        "description": description,
        "content": {"application/json": {"schema": _schema_of(example)}},
    }


def _schema_of(value: object) -> dict[str, Any]:
    """The schema of a body, from an example."""
    if isinstance(value, dict):
        properties = {name: _schema_of(each) for name, each in value.items()}
        return {"type": "object", "properties": properties, "required": list(properties)}
    if isinstance(value, list):
        return {"type": "array", "items": _schema_of(value[0])}
    return {"type": "integer" if isinstance(value, int) else "string"}
