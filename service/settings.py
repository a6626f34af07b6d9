"""Settings of the service, read from the environment (`DRAGOMAN_*`) and from command-line flags.

Every limit that an error can name is a field here; docs/running.md shows the descriptions. Host,
port and the models folder are arguments of `serve`, not settings: Kubernetes sets DRAGOMAN_PORT
itself beside a Service called dragoman.
"""

import difflib
import os
import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from model.errors import ConfigError
from model.system.process import num_cores
from model.text.segmenter import Segmentation
from service.rates import Rate

LogFormat = Literal["text", "json"]

ENV_PREFIX = "DRAGOMAN_"

# Variables that Kubernetes sets for a Service named dragoman: DRAGOMAN_SERVICE_HOST and so on.
_KUBERNETES_NAME = re.compile(r"DRAGOMAN_(SERVICE|PORT)(_.*)?")

_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,2})?")

# More engines than cores only compete for them; a much larger number is a typing error.
_MAX_ENGINES_PER_CORE = 4

# An origin as browsers write it: https://example.org:8443, chrome-extension://abcd; no path.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#*A-Z]+")


class Settings(BaseSettings):
    """Settings of the service: loading, limits, access, connections, shutdown. Times in seconds."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid")

    # Loading
    device: str = Field(
        "cpu", description="Device for translation: `cpu`, `cuda`, `cuda:1` or `auto`."
    )
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        "auto",
        description="Number format: `fp32`, `bf16`, `int8` or `auto` (int8 on a CPU where it is "
        "clearly faster, else fp32; bf16 on a GPU).",
    )
    shortlist: bool = Field(
        True,
        description="Score only the likely target words of each sentence, if the checkpoint has a "
        "shortlist. Faster.",
    )
    max_slots: int = Field(
        64, ge=1, le=4096, description="Sentences that one engine translates at the same time."
    )
    threads_per_model: int | None = Field(
        None,
        ge=1,
        description="Engines per model, at most 4 per core. 1 runs inside the service process and "
        "needs least memory. Unset: the cores divided by the number of models.",
    )

    # Logs and traces
    log_format: LogFormat = Field(
        "text",
        description="`text` for people, or `json`: one object per line, with the request's id, "
        "route, status, time and sizes as fields.",
    )
    tracing: bool = Field(
        False,
        description="Send a span of each request to OpenTelemetry. The endpoint is set by "
        "`OTEL_EXPORTER_OTLP_ENDPOINT`. Needs `pip install 'dragoman[tracing]'`.",
    )

    # One request
    max_body_bytes: int = Field(
        2 * 1024 * 1024, ge=1024, description="Largest request body, in bytes. Above it: 413."
    )
    body_timeout_s: float = Field(
        20.0, gt=0, le=600, description="Longest time for a request body to arrive. After it: 408."
    )
    max_texts: int = Field(
        256, ge=1, description="Most texts (or pairs to score) in a request. Above it: 413."
    )
    max_characters: int = Field(
        100_000, ge=1, description="Most characters in all texts of a request. Above it: 413."
    )
    max_beam_size: int = Field(
        16, ge=1, le=256, description="Largest beam size that a request may ask for."
    )
    # Clients that retry do so at 10.
    deadline_s: float = Field(
        8.0,
        gt=0,
        le=3600,
        description="Longest time until a request is answered. After it: 504. The request header "
        "`X-Deadline-Seconds` lowers it.",
    )

    segmentation: Segmentation = Field(
        "sentence",
        description="Unit of translation when a request names none: `sentence`, `line` or `none` "
        "(the whole text at once).",
    )

    pivot: bool = Field(
        False,
        description="Translate through a third language (English if possible) where no model "
        "translates directly. The response header `X-Pivot-Language` names it.",
    )

    # All requests of one model together
    max_queue_texts: int = Field(
        1024,
        ge=1,
        description="Most texts in one model's queue, and most texts waiting for language "
        "detection. At least `max_texts`. Above it: 429.",
    )
    max_queue_characters: int = Field(
        400_000,
        ge=1,
        description="Most characters in one model's queue. At least `max_characters`. "
        "Above it: 429.",
    )
    max_queue_s: float = Field(
        2.0,
        gt=0,
        le=3600,
        description="Longest estimated wait in a model's queue, at the speed measured so far. "
        "Above it: 429.",
    )
    queue_wait_s: float = Field(
        0.025,
        ge=0,
        le=60,
        description="Longest time that a request waits for a free place in a full queue. After it: "
        "429.",
    )

    # Cache
    cache_characters: int = Field(
        500_000,
        ge=0,
        description="Size of the cache of translations, in characters. A sentence of 40 "
        "characters counts about 300 with its translation. 0 turns it off.",
    )

    # Access
    keys_file: Path | None = Field(
        None, description="File of API keys, made by `dragoman keys`. Unset: no key is needed."
    )
    rate_limit: Rate | None = Field(
        None,
        description="Rate limit in texts, such as `600/minute`, for each key, or for each client "
        "address if there are no keys. Above it: 429. Unset: no limit.",
    )
    usage_file: Path | None = Field(
        None,
        description="SQLite file that stores how many characters each key has used. Unset: the "
        "counts are lost at a restart.",
    )
    trusted_proxies: str | None = Field(
        None,
        description="Proxies whose `X-Forwarded-For` header is trusted: addresses and networks, "
        "separated by commas. Unset: none.",
    )
    cors_origins: str | None = Field(
        None,
        description="Origins of web pages and browser extensions that may call the service, "
        "separated by commas (`https://example.org, moz-extension://0a1b`), or `*` for all. "
        "Unset: none.",
    )

    # Connections
    max_connections: int = Field(
        1000, ge=1, description="Most open connections. Above it: 503, except for health checks."
    )
    head_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Longest time for a request head to arrive. After it: 408."
    )
    answer_timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="Time in which a client must read some of its answer, at least 1 KiB per "
        "second. Else its connection is closed.",
    )

    # Shutdown
    drain_grace_s: float = Field(
        1.0,
        ge=0,
        le=600,
        description="After SIGTERM: time from the first failing readiness check until the socket "
        "closes.",
    )

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            raise ValueError("not a device; use cpu, cuda, cuda:N or auto")
        return value

    @field_validator("threads_per_model")
    @classmethod
    def _are_not_too_many(cls, value: int | None) -> int | None:
        cores = num_cores()
        most = _MAX_ENGINES_PER_CORE * cores
        if value is not None and value > most:
            raise ValueError(
                f"{value} engines are too many for {cores} cores, the limit is {most}; set fewer, "
                f"or none to divide the cores among the models"
            )
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, value: str | None) -> str | None:
        for each in [] if value is None else value.split(","):
            try:
                ip_network(each.strip())
            except ValueError:
                raise ValueError(
                    "not a list of addresses and networks; write for example 10.0.0.0/8, 192.0.2.7"
                ) from None
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: str | None) -> str | None:
        for each in [] if value is None else value.split(","):
            if each.strip() != "*" and not _ORIGIN.fullmatch(each.strip()):
                raise ValueError(
                    "not a list of origins; write for example https://example.org, "
                    "moz-extension://0a1b, in lower case and without a path, or * for all"
                )
        return value

    @model_validator(mode="after")
    def _queue_holds_the_largest_request(self) -> "Settings":
        # Otherwise the largest request would always be rejected with "retry later".
        if self.max_queue_texts < self.max_texts:
            raise ValueError(
                f"max_queue_texts is {self.max_queue_texts}, below max_texts {self.max_texts}; "
                "raise DRAGOMAN_MAX_QUEUE_TEXTS or lower DRAGOMAN_MAX_TEXTS"
            )
        if self.max_queue_characters < self.max_characters:
            raise ValueError(
                f"max_queue_characters is {self.max_queue_characters}, "
                f"below max_characters {self.max_characters}; "
                "raise DRAGOMAN_MAX_QUEUE_CHARACTERS or lower DRAGOMAN_MAX_CHARACTERS"
            )
        return self


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """Settings from the environment; those of `overrides` that are not None win.

    Raises ConfigError that names the setting.
    """
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name in os.environ:
        if not name.startswith(ENV_PREFIX) or name in known or _KUBERNETES_NAME.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "docs/running.md lists all settings"
        raise ConfigError(f"environment variable {name} is not a setting; {hint}")
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        name = ".".join(f"{ENV_PREFIX}{part}".upper() for part in problem["loc"][:1])
        message = problem["msg"].removeprefix("Value error, ")
        problems.append(f"{name}: {message}" if name else message)
    return f"invalid settings: {'; '.join(problems)}"
