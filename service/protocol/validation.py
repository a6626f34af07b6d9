"""Turns pydantic's validation errors into one sentence that never quotes the input."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from service.errors import InvalidRequest
from service.protocol.fields import TEXT_TAGS
from service.protocol.strict_json import plain_name

Body = TypeVar("Body", bound=BaseModel)

_MAX_PROBLEMS = 3


def validated(kind: type[Body], fields: Mapping[str, object]) -> Body:
    """The fields as a body of this kind; raises InvalidRequest."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise invalid_request(error.errors(include_url=False, include_input=False)) from None


def invalid_request(problems: Sequence[Mapping[str, Any]], *, above: int = 0) -> InvalidRequest:
    """The error for these validation errors of pydantic.

    `above`: leading parts of each location to drop, such as FastAPI's "body".
    """
    described = [_problem(problem, above) for problem in problems[:_MAX_PROBLEMS]]
    message = "; ".join(sentence for _, sentence in described)
    if len(problems) > _MAX_PROBLEMS:
        message += f"; and {len(problems) - _MAX_PROBLEMS} more problems"
    return InvalidRequest(message, field=described[0][0])


def _problem(problem: Mapping[str, Any], above: int) -> tuple[str | None, str]:
    """Field and sentence for one validation error, without the input that pydantic quotes."""
    field = _field(problem["loc"][above:])
    if problem["type"] == "extra_forbidden":
        return field, f"{field or 'a field'} is not a field of this request; /docs lists the fields"
    if problem["type"] == "missing":
        return field, f"{field or 'the body'} is missing"
    if problem["type"] == "string_pattern_mismatch":  # only languages have a pattern
        return field, f"{field} is not a language tag; send one such as en or pt-BR"
    if problem["type"] == "value_error":  # our own validators' sentences
        return field, str(problem["msg"]).removeprefix("Value error, ")
    return field, f"{field or 'the body'}: {str(problem['msg']).lower()}"


def _field(location: Sequence[object]) -> str | None:
    """A position as the sender would write it: ('text', 3) is text[3]."""
    field = ""
    for step in location:
        if isinstance(step, int):
            field += f"[{step}]"
        elif step not in TEXT_TAGS:
            name = plain_name(step)
            if name is None:
                break
            field += f".{name}" if field else name
    return field or None
