"""What pydantic found wrong in a request, in one sentence that never quotes the input."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from service.errors import InvalidRequest
from service.protocol.fields import TEXT_TAGS
from service.protocol.strict_json import plain_name

Body = TypeVar("Body", bound=BaseModel)

_MAX_PROBLEMS = 3


def validated(kind: type[Body], fields: Mapping[str, object]) -> Body:
    """A body of this kind; raises InvalidRequest."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise invalid_request(error.errors(include_url=False, include_input=False)) from None


def invalid_request(problems: Sequence[Mapping[str, Any]], *, above: int = 0) -> InvalidRequest:
    """The error that tells of pydantic's findings; positions count from the body's top.

    `above` it are so many steps of each, which the sender did not write.
    """
    told = [_problem(problem, above) for problem in problems[:_MAX_PROBLEMS]]
    # A list of a thousand wrong texts is told by its first few.
    message = "; ".join(sentence for _, sentence in told)
    if len(problems) > _MAX_PROBLEMS:
        message += f"; and {len(problems) - _MAX_PROBLEMS} more problems"
    return InvalidRequest(message, field=told[0][0])


def _problem(problem: Mapping[str, Any], above: int) -> tuple[str | None, str]:
    """Field and sentence of one of pydantic's findings, without the input it quotes."""
    field = _field(problem["loc"][above:])
    if problem["type"] == "extra_forbidden":
        return field, f"{field or 'a field'} is no field of this request; /docs lists them"
    if problem["type"] == "missing":
        return field, f"{field or 'the body'} is missing"
    if problem["type"] == "string_pattern_mismatch":  # only languages have one
        return field, f"{field} is no language tag; send one such as en or pt-BR"
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
