"""Settings of the service, read from the environment (`DRAGOMAN_*`) and from command-line flags.

Every limit that a refusal can name is a field here, and its description is what the documentation
says of it. Host, port and the models folder are arguments of `serve`: Kubernetes sets DRAGOMAN_PORT
by itself beside a Service called dragoman.
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

# What Kubernetes injects for a Service named dragoman (DRAGOMAN_SERVICE_HOST, DRAGOMAN_PORT_...).
_KUBERNETES_NAME = re.compile(r"DRAGOMAN_(SERVICE|PORT)(_.*)?")

_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,2})?")

# More engines than cores only wait for each other; some more may be meant, a typing error not.
_MOST_ENGINES_A_CORE = 4

# As browsers write them: https://example.org:8443, chrome-extension://abcd; no path, no slash.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#*A-Z]+")


class Settings(BaseSettings):
    """How the service loads, limits and leaves. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid")

    # Loading
    device: str = Field(
        "cpu", description="where the networks run: `cpu`, `cuda`, `cuda:1`, or `auto`"
    )
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        "auto",
        description="`fp32`, `bf16`, `int8`, or `auto`: int8 where it is clearly faster than fp32; "
        "bf16 on a GPU",
    )
    shortlist: bool = Field(
        True, description="look only at likely target words, if the checkpoint knows them"
    )
    max_slots: int = Field(
        64, ge=1, le=4096, description="sentences that each engine translates at the same time"
    )
    threads_per_model: int | None = Field(
        None,
        ge=1,
        description="engines of each model, at most four times the cores: several have processes "
        "of their own, 1 is in that of the service and takes least memory; unset: a fair share of "
        "the cores, in processes where every model has a core",
    )

    # Telling
    log_format: LogFormat = Field(
        "text",
        description="`text` for people, or `json`: one object a line, with the request's id, "
        "route, status, time and sizes as fields",
    )
    tracing: bool = Field(
        False,
        description="sends a span of each request to OpenTelemetry, as its own variables "
        "(`OTEL_EXPORTER_OTLP_ENDPOINT`) say; needs `pip install 'dragoman[tracing]'`",
    )

    # One request
    max_body_bytes: int = Field(
        2 * 1024 * 1024, ge=1024, description="size of a request; past it 413, while still reading"
    )
    body_timeout_s: float = Field(
        20.0, gt=0, le=600, description="seconds for a request to arrive; past it 408"
    )
    max_texts: int = Field(256, ge=1, description="texts (or pairs) in a request; past it 413")
    max_characters: int = Field(
        100_000, ge=1, description="characters of all texts of a request; past it 413"
    )
    max_beam_size: int = Field(16, ge=1, le=256, description="largest beam a request may ask for")
    # Clients that retry do so at 10.
    deadline_s: float = Field(
        8.0,
        gt=0,
        le=3600,
        description="seconds for an answer; past it 504. A request's header `X-Deadline-Seconds` "
        "lowers it",
    )

    segmentation: Segmentation = Field(
        "sentence",
        description="what is translated in one go unless a request says so: `sentence`, `line`, "
        "or `none`: the whole text",
    )

    pivot: bool = Field(
        False,
        description="translates through a third language, English if possible, where no model goes "
        "directly; the answer says so in `X-Pivot-Language`",
    )

    # All requests of one model together
    max_queue_texts: int = Field(
        1024,
        ge=1,
        description="texts accepted and not yet answered, of one model, or waiting for their "
        "language to be detected, at least those of one request; past it 429",
    )
    max_queue_characters: int = Field(
        400_000, ge=1, description="their characters, at least those of one request; past it 429"
    )
    max_queue_s: float = Field(
        2.0,
        gt=0,
        le=3600,
        description="seconds that they will take, at the speed seen so far; past it 429, since "
        "who would wait longer than the deadline gets nothing",
    )
    queue_wait_s: float = Field(
        0.025,
        ge=0,
        le=60,
        description="seconds that a full queue lets a request wait for room before it says 429",
    )

    # What was translated before
    cache_characters: int = Field(
        500_000,
        ge=0,
        description="size of the translations that are remembered, in characters; 0: none",
    )

    # Who may ask, and how much
    keys_file: Path | None = Field(
        None, description="the API keys, as `dragoman keys` writes them; unset: no key is needed"
    )
    rate_limit: Rate | None = Field(
        None,
        description="texts that each key, or without keys each address, may send in a time, such "
        "as `600/minute`; past it 429. Unset: no limit",
    )
    usage_file: Path | None = Field(
        None,
        description="an SQLite file that keeps the characters each key has used; unset: a restart "
        "forgets them",
    )
    trusted_proxies: str | None = Field(
        None,
        description="addresses and networks, with commas, whose `X-Forwarded-For` is believed; "
        "unset: nobody's",
    )
    cors_origins: str | None = Field(
        None,
        description="web pages and browser extensions that may use the service, by their origins, "
        "with commas (`https://example.org, moz-extension://0a1b`), or `*` for all; unset: none",
    )

    # Connections
    max_connections: int = Field(
        1000, ge=1, description="open at the same time; past it 503, but for health"
    )
    head_timeout_s: float = Field(
        10.0, gt=0, le=600, description="seconds for the head of a request to arrive; past it 408"
    )
    answer_timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="seconds in which a client must read some of its answer, at least a kilobyte "
        "for each; else it is cut off",
    )

    # SIGTERM: for balancers to notice
    drain_grace_s: float = Field(
        1.0,
        ge=0,
        le=600,
        description="seconds between readiness turning red and the socket closing",
    )

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            raise ValueError("it is no device; use cpu, cuda, cuda:N or auto")
        return value

    @field_validator("threads_per_model")
    @classmethod
    def _are_not_too_many(cls, value: int | None) -> int | None:
        cores = num_cores()
        most = _MOST_ENGINES_A_CORE * cores
        if value is not None and value > most:
            raise ValueError(
                f"{value} engines are too many for the cores that may be used here ({cores}); "
                f"set at most {most}, or leave it unset for a fair share of the cores"
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
                    "it is no list of addresses and networks; write one such as "
                    "10.0.0.0/8, 192.0.2.7"
                ) from None
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: str | None) -> str | None:
        for each in [] if value is None else value.split(","):
            if each.strip() != "*" and not _ORIGIN.fullmatch(each.strip()):
                raise ValueError(
                    "it is no list of origins; write one such as https://example.org, "
                    "moz-extension://0a1b, in lower case and without a path, or * for all"
                )
        return value

    @model_validator(mode="after")
    def _queue_holds_the_largest_request(self) -> "Settings":
        # Otherwise that request would be refused for ever with "try again later".
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
    """The environment's settings, with those of `overrides` that are not None on top.

    Raises ConfigError: one sentence that names the setting.
    """
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name in os.environ:
        if not name.startswith(ENV_PREFIX) or name in known or _KUBERNETES_NAME.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "docs/running.md lists those there are"
        raise ConfigError(f"environment variable {name} is no setting of the service; {hint}")
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
    return f"bad settings of the service: {'; '.join(problems)}"
