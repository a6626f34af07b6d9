"""Field types of both versions of Azure's API; unsupported options are refused by name."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ValidationInfo


def _named(*values: str) -> BeforeValidator:
    """Accepts these values in upper or lower case, as Azure does."""
    by_lower = {value.lower(): value for value in values}
    return BeforeValidator(
        lambda given: by_lower.get(given.lower(), given) if isinstance(given, str) else given
    )


def _refuse(given: object, info: ValidationInfo) -> None:
    if given is not None:
        raise _unsupported(info)


def _refuse_true(given: bool, info: ValidationInfo) -> bool:
    if given:
        raise _unsupported(info)
    return given


def _unsupported(info: ValidationInfo) -> ValueError:
    return ValueError(f"{info.field_name} is not supported by this service; leave it out")


Unsupported = Annotated[None, BeforeValidator(_refuse)]
Off = Annotated[bool, AfterValidator(_refuse_true)]
TextType = Annotated[Literal["plain", "html"], _named("plain", "html")]
# The only supported action changes nothing, so the marker has no effect.
ProfanityAction = Annotated[Literal["NoAction"], _named("NoAction")]
ProfanityMarker = Annotated[Literal["Asterisk", "Tag"], _named("Asterisk", "Tag")]
General = Annotated[Literal["general"], _named("general")]
