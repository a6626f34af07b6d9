"""The commands: each serves a model, puts it under one kind of pressure, and reports JSON.

python -m tests.load overload models --model demo --source test.en
python -m tests.load leaving models --model demo --source test.en
python -m tests.load long-text models --model demo --source test.en
python -m tests.load soak models --model demo --source test.en
python -m tests.load swaps models/old models/new --source test.en
"""

import argparse
import asyncio
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from model.errors import DragomanError, InputError
from model.text.text_file import read_lines
from tests.load.abandoned import leaving
from tests.load.client import Sentences
from tests.load.long_text import long_text
from tests.load.model_swaps import swaps
from tests.load.options import AboveZero, ZeroOrAbove, reading
from tests.load.overload import overload
from tests.load.server_process import Served, served
from tests.load.soak import soak

_EXIT_INTERRUPTED = 130  # as shells count: 128 and SIGINT's number


def main() -> None:
    """Runs one of them."""
    asked = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # or they would leave the service behind
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        report, exit_code = _swaps(asked) if asked.pressure == "swaps" else _pressed(asked)
    except (OSError, DragomanError) as error:
        sys.exit(f"stress: {error}")
    except KeyboardInterrupt:
        sys.exit(_EXIT_INTERRUPTED)
    print(json.dumps({**asdict(report), "exit_code": exit_code}, indent=2))


def _swaps(asked: argparse.Namespace) -> tuple[Any, int]:
    return swaps(
        asked.old,
        asked.new,
        _lines(asked.source)[: asked.sentences],
        num_swaps=asked.swaps,
        num_clients=asked.clients,
        precision=asked.precision,
        pause_s=asked.pause_ms / 1000,
        options=[] if asked.threads is None else ["--threads", str(asked.threads)],
    )


def _pressed(asked: argparse.Namespace) -> tuple[Any, int]:
    sentences = Sentences(_lines(asked.source))
    with served(asked.models) as service:
        if asked.model not in service.models():
            names = ", ".join(service.models())
            raise InputError(f"no model is named {asked.model}; there are: {names}")
        report = asyncio.run(_measure(asked, service, sentences))
        return report, service.end()


def _lines(source: Path) -> list[str]:
    lines = [line.strip() for line in read_lines(source) if line.strip()]
    if not lines:
        raise InputError(f"{source} has no sentence to translate; choose another file")
    return lines


async def _measure(asked: argparse.Namespace, service: Served, sentences: Sentences) -> Any:
    match asked.pressure:
        case "overload":
            return await overload(
                service,
                sentences,
                asked.model,
                factor=asked.factor,
                seconds=asked.seconds,
                texts=asked.texts,
            )
        case "leaving":
            return await leaving(service, sentences, asked.model, clients=asked.clients)
        case "long-text":
            return await long_text(
                service,
                sentences,
                asked.model,
                num_characters=asked.characters,
                short_per_s=asked.rate,
                seconds=asked.seconds,
            )
        case _:
            return await soak(
                service,
                sentences,
                asked.model,
                clients=asked.clients,
                requests=asked.requests,
                seconds=asked.seconds,
                warm_up=asked.warm_up,
                state_every_s=asked.state_every,
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.load",
        description="Serve a model and put it under pressure.",
    )
    count, count_or_none = reading(PositiveInt), reading(NonNegativeInt)
    above_zero, zero_or_above = reading(AboveZero), reading(ZeroOrAbove)
    pressures = parser.add_subparsers(dest="pressure", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        pressure = pressures.add_parser(name, help=text, description=text)
        pressure.add_argument("--source", type=Path, required=True, help="sentences, one a line")
        return pressure

    def add_served(name: str, text: str) -> argparse.ArgumentParser:
        pressure = add(name, text)
        pressure.add_argument("models", type=Path, help="models folder, or a checkpoint")
        pressure.add_argument("--model", required=True, help="name of the model in it")
        return pressure

    each = add_served("overload", "many times as many requests as can be done")
    each.add_argument("--factor", type=above_zero, default=3.0, help="of the capacity; default: 3")
    each.add_argument("--seconds", type=above_zero, default=60.0, help="default: 60")
    each.add_argument("--texts", type=count, default=1, help="sentences in a request; default: 1")
    each = add_served("leaving", "clients that hang up before they have an answer")
    each.add_argument("--clients", type=count, default=200, help="default: 200")
    each = add_served("long-text", "a very long text beside short ones")
    each.add_argument("--characters", type=count, default=100_000, help="default: 100000")
    each.add_argument(
        "--rate", type=above_zero, default=10.0, help="short ones a second; default: 10"
    )
    each.add_argument("--seconds", type=above_zero, default=30.0, help="each way; default: 30")
    each = add_served("soak", "very many short requests, some bad, some abandoned")
    each.add_argument("--clients", type=count, default=16, help="default: 16")
    each.add_argument("--requests", type=count, default=1_000_000, help="default: 1000000")
    each.add_argument("--seconds", type=above_zero, default=3600.0, help="default: 3600")
    each.add_argument(
        "--warm-up", type=count_or_none, default=20_000, help="requests; default: 20000"
    )
    each.add_argument("--state-every", type=above_zero, default=60.0, help="seconds; default: 60")
    each = add("swaps", "two checkpoints exchanged again and again while clients are answered")
    each.add_argument("old", type=Path, help="a checkpoint")
    each.add_argument("new", type=Path, help="another of the same languages")
    each.add_argument("--sentences", type=count, default=100, help="of the source; default: 100")
    each.add_argument("--swaps", type=count, default=100, help="default: 100")
    each.add_argument("--clients", type=count, default=8, help="default: 8")
    each.add_argument(
        "--pause-ms",
        type=zero_or_above,
        default=0.0,
        help="of each client between an answer and its next request; default: 0, which takes all "
        "of the machine and leaves a swap its share of it",
    )
    each.add_argument(
        "--precision",
        choices=("fp32", "int8"),
        default="fp32",
        help="the two in which a sentence has one translation in any company; default: fp32",
    )
    each.add_argument("--threads", type=count, help="default: the service's own")
    return parser


if __name__ == "__main__":
    main()
