"""The body of an error response of /v1."""

from typing import Annotated

from pydantic import BaseModel, Field


class ErrorDetail(BaseModel):
    """What went wrong; never repeats the client's text."""

    code: Annotated[str, Field(description="For programs.", examples=["invalid_request"])]
    message: Annotated[str, Field(description="For people.")]
    field: Annotated[
        str | None, Field(description="The part of the body that is wrong.", examples=["text[3]"])
    ] = None


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail
