"""The commands: each serves a model, runs one load test against it, and prints a JSON report.

python -m tests.load overload models --model demo --source test.en
python -m tests.load abandoned models --model demo --source test.en
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
from tests.load.abandoned import abandoned
from tests.load.client import Sentences
from tests.load.long_text import long_text
from tests.load.model_swaps import swaps
from tests.load.options import AboveZero, ZeroOrAbove, reading
from tests.load.overload import overload
from tests.load.server_process import Served, served
from tests.load.soak import soak

_EXIT_INTERRUPTED = 130  # as shells count: 128 and SIGINT's number


def main() -> None:
    """Runs one of the commands."""
    options = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # they would leave the service running
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        report, exit_code = _swaps(options) if options.test == "swaps" else _load_test(options)
    except (OSError, DragomanError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(_EXIT_INTERRUPTED)
    print(json.dumps({**asdict(report), "exit_code": exit_code}, indent=2))


def _swaps(options: argparse.Namespace) -> tuple[Any, int]:
    return swaps(
        options.old,
        options.new,
        _lines(options.source)[: options.sentences],
        num_swaps=options.swaps,
        num_clients=options.clients,
        precision=options.precision,
        pause_s=options.pause_ms / 1000,
        options=[] if options.threads is None else ["--threads", str(options.threads)],
    )


def _load_test(options: argparse.Namespace) -> tuple[Any, int]:
    sentences = Sentences(_lines(options.source))
    with served(options.models) as service:
        if options.model not in service.models():
            names = ", ".join(service.models())
            raise InputError(f"the service has no model {options.model}; its models: {names}")
        report = asyncio.run(_measure(options, service, sentences))
        return report, service.end()


def _lines(source: Path) -> list[str]:
    lines = [line.strip() for line in read_lines(source) if line.strip()]
    if not lines:
        raise InputError(f"{source} has no sentence to translate; choose another file")
    return lines


async def _measure(options: argparse.Namespace, service: Served, sentences: Sentences) -> Any:
    match options.test:
        case "overload":
            return await overload(
                service,
                sentences,
                options.model,
                factor=options.factor,
                seconds=options.seconds,
                texts=options.texts,
            )
        case "abandoned":
            return await abandoned(service, sentences, options.model, clients=options.clients)
        case "long-text":
            return await long_text(
                service,
                sentences,
                options.model,
                num_characters=options.characters,
                short_per_s=options.rate,
                seconds=options.seconds,
            )
        case _:
            return await soak(
                service,
                sentences,
                options.model,
                clients=options.clients,
                requests=options.requests,
                seconds=options.seconds,
                warm_up=options.warm_up,
                state_every_s=options.state_every,
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.load", description="Serve a model and run a load test against it."
    )
    count, count_or_none = reading(PositiveInt), reading(NonNegativeInt)
    above_zero, zero_or_above = reading(AboveZero), reading(ZeroOrAbove)
    tests = parser.add_subparsers(dest="test", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        test = tests.add_parser(
            name,
            help=text,
            description=text,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        test.add_argument("--source", type=Path, required=True, help="sentences, one per line")
        return test

    def add_served(name: str, text: str) -> argparse.ArgumentParser:
        test = add(name, text)
        test.add_argument("models", type=Path, help="models folder, or a checkpoint")
        test.add_argument("--model", required=True, help="name of the model to send requests to")
        return test

    test = add_served("overload", "Send more requests than the service can answer.")
    test.add_argument("--factor", type=above_zero, default=3.0, help="requests, times the capacity")
    test.add_argument("--seconds", type=above_zero, default=60.0, help="duration of the overload")
    test.add_argument("--texts", type=count, default=1, help="sentences in a request")
    test = add_served("abandoned", "Disconnect clients before they have an answer.")
    test.add_argument("--clients", type=count, default=200, help="number of clients")
    test = add_served("long-text", "Send a very long text beside short ones.")
    test.add_argument("--characters", type=count, default=100_000, help="size of the long text")
    test.add_argument("--rate", type=above_zero, default=10.0, help="short requests per second")
    test.add_argument(
        "--seconds", type=above_zero, default=30.0, help="without the long text, and again with it"
    )
    test = add_served("soak", "Send very many short requests, some invalid, some abandoned.")
    test.add_argument("--clients", type=count, default=16, help="number of clients")
    test.add_argument("--requests", type=count, default=1_000_000, help="requests at most")
    test.add_argument("--seconds", type=above_zero, default=3600.0, help="duration at most")
    test.add_argument(
        "--warm-up", type=count_or_none, default=20_000, help="requests before growth is measured"
    )
    test.add_argument(
        "--state-every", type=above_zero, default=60.0, help="seconds between memory figures"
    )
    test = add("swaps", "Swap two checkpoints again and again while clients send requests.")
    test.add_argument("old", type=Path, help="a checkpoint")
    test.add_argument("new", type=Path, help="another checkpoint for the same languages")
    test.add_argument("--sentences", type=count, default=100, help="number of source lines to use")
    test.add_argument("--swaps", type=count, default=100, help="number of swaps")
    test.add_argument("--clients", type=count, default=8, help="number of clients")
    test.add_argument(
        "--pause-ms",
        type=zero_or_above,
        default=0.0,
        help="pause of each client after an answer; 0 keeps the machine busy during the swaps",
    )
    test.add_argument(
        "--precision",
        choices=("fp32", "int8"),
        default="fp32",
        help="one whose translations do not depend on the rest of the batch",
    )
    test.add_argument("--threads", type=count, help="None: the service chooses")
    return parser


if __name__ == "__main__":
    main()
