"""What the OpenAPI document says of requests and refusals that FastAPI does not see by itself.

The faces of other APIs read their fields and word their errors on their own.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from service.errors import ClientGone
from service.protocol.dialects import NATIVE, Dialect
from service.protocol.error_body import ErrorBody
from service.protocol.error_table import ERROR_TABLE, Refusal

_FORM = "application/x-www-form-urlencoded"
_BODY_TYPES = ("application/json", _FORM, "multipart/form-data")
# What the framework and the last resort answer with, beside the table.
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
    """Every refusal that a client of an API may meet: status, its codes, and the body's shape."""
    table = [(status, code) for kind, status, code, _ in ERROR_TABLE if kind is not ClientGone]
    codes: dict[int, set[str]] = {}
    for status, code in (*table, *_OTHERS):
        codes.setdefault(dialect.statuses.get(code, status), set()).add(code)
    return {status: _response(dialect, codes[status]) for status in sorted(codes)}


def _response(dialect: Dialect, codes: Iterable[str]) -> dict[str, Any]:
    description = ", ".join(sorted(codes))
    if dialect is NATIVE:
        return {"model": ErrorBody, "description": description}
    example = dialect.body(Refusal(400, "code", "why, and what to do about it"))
    return {
        "description": description,
        "content": {"application/json": {"schema": _schema_of(example)}},
    }


def _schema_of(value: object) -> dict[str, Any]:
    """The shape of a body, told from one."""
    if isinstance(value, dict):
        properties = {name: _schema_of(each) for name, each in value.items()}
        return {"type": "object", "properties": properties, "required": list(properties)}
    if isinstance(value, list):
        return {"type": "array", "items": _schema_of(value[0])}
    return {"type": "integer" if isinstance(value, int) else "string"}
