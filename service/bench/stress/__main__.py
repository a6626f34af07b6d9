"""The commands: each serves a models folder, puts it under one kind of pressure, and reports JSON.

python -m service.bench.stress overload models --model demo --source test.en
python -m service.bench.stress leaving models --model demo --source test.en
python -m service.bench.stress long-text models --model demo --source test.en
python -m service.bench.stress soak models --model demo --source test.en
"""

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model.errors import DragomanError
from service.bench.stress.client import Sentences
from service.bench.stress.leaving import leaving
from service.bench.stress.long_text import long_text
from service.bench.stress.overload import overload
from service.bench.stress.served import Served, served
from service.bench.stress.soak import soak
from service.text_lines import read_lines


def main() -> None:
    """Runs one of them."""
    asked = _parser().parse_args()
    try:
        sentences = Sentences(list(read_lines(asked.source)))
        with served(asked.models) as service:
            report = asyncio.run(_measure(asked, service, sentences))
            exit_code = service.end()
    except (OSError, DragomanError) as error:
        sys.exit(f"stress: {error}")
    print(json.dumps({**asdict(report), "exit_code": exit_code}, indent=2))


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
        prog="python -m service.bench.stress",
        description="Serve a models folder and put it under pressure.",
    )
    pressures = parser.add_subparsers(dest="pressure", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        pressure = pressures.add_parser(name, help=text, description=text)
        pressure.add_argument("models", type=Path, help="models folder, or a checkpoint")
        pressure.add_argument("--model", required=True, help="name of the model in it")
        pressure.add_argument("--source", type=Path, required=True, help="sentences, one a line")
        return pressure

    each = add("overload", "many times as many requests as can be done")
    each.add_argument("--factor", type=float, default=3.0, help="of the capacity; default: 3")
    each.add_argument("--seconds", type=float, default=60.0, help="default: 60")
    each.add_argument("--texts", type=int, default=1, help="sentences in a request; default: 1")
    each = add("leaving", "clients that hang up before they have an answer")
    each.add_argument("--clients", type=int, default=200, help="default: 200")
    each = add("long-text", "a very long text beside short ones")
    each.add_argument("--characters", type=int, default=100_000, help="default: 100000")
    each.add_argument("--rate", type=float, default=10.0, help="short ones a second; default: 10")
    each.add_argument("--seconds", type=float, default=30.0, help="each way; default: 30")
    each = add("soak", "very many short requests, some bad, some abandoned")
    each.add_argument("--clients", type=int, default=16, help="default: 16")
    each.add_argument("--requests", type=int, default=1_000_000, help="default: 1000000")
    each.add_argument("--seconds", type=float, default=3600.0, help="default: 3600")
    each.add_argument("--warm-up", type=int, default=20_000, help="requests; default: 20000")
    each.add_argument("--state-every", type=float, default=60.0, help="seconds; default: 60")
    return parser


if __name__ == "__main__":
    main()
