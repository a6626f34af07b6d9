"""The `dragoman` command: its subcommands, with those of training where it is installed.

torch, and modules that need it, are imported inside the subcommands, so that `--help` is fast.
"""

import importlib.metadata
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from model.errors import DragomanError
from model.system.process import tune_process
from model.text.segmenter import Segmentation
from service.commands.keys import keys_commands
from service.commands.loading import Loading
from service.files.translate_file import Interrupted

_PACKAGES = ("model", "training", "service")
_EXIT_ERROR, _EXIT_INTERRUPTED = 1, 130

CheckpointArgument = Annotated[
    Path, typer.Argument(help="Checkpoint folder.", metavar="CHECKPOINT")
]
MAX_BEAM_SIZE = 1000  # wider ones take minutes a sentence and gain nothing

BeamSize = Annotated[
    int | None,
    typer.Option(
        "--beam-size",
        min=1,
        max=MAX_BEAM_SIZE,
        help="Hypotheses kept at each word. Default: the checkpoint's own.",
    ),
]
LengthPenalty = Annotated[
    float | None,
    typer.Option(
        "--length-penalty",
        help="0 turns it off, larger favours longer output. Default: the checkpoint's own.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 or auto.")]
Precision = Annotated[str, typer.Option("--precision", help="fp32, bf16, int8 or auto.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Cores to use, with an engine each. Default: all."),
]
Slots = Annotated[
    int, typer.Option("--slots", min=1, help="Sentences each engine translates at the same time.")
]
UseShortlist = Annotated[
    bool,
    typer.Option(
        "--shortlist/--no-shortlist",
        help="Look only at likely target words, if the checkpoint knows them: faster.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def main() -> None:
    """Entry point of the console command."""
    tune_process()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command line; returns its exit status. Errors become one line on standard error."""
    try:
        status = build_app()(args=list(arguments), prog_name="dragoman", standalone_mode=False)
        sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt):
        return _EXIT_INTERRUPTED
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return _EXIT_INTERRUPTED
    except typer.TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "dragoman")
        _complain(f"{error.format_message()} (see {command} --help)")
        return error.exit_code
    except DragomanError as error:
        _complain(str(error))
        return _EXIT_ERROR
    except BrokenPipeError:
        _abandon_stdout()
        return _EXIT_ERROR
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}")
        return _EXIT_ERROR
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in _PACKAGES:
            raise
        _complain(
            f"this command needs the package {error.name}, which is not installed: "
            f"pip install 'dragoman[training]'"
        )
        return _EXIT_ERROR
    except SystemExit as error:  # typer's own answer to a reader that went away
        _abandon_stdout()
        return error.code if isinstance(error.code, int) else _EXIT_ERROR
    return status if isinstance(status, int) else 0


def build_app() -> typer.Typer:
    """The command with all its subcommands; training's only where training is installed."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback(invoke_without_command=True)(_root)
    if importlib.util.find_spec("training") is not None:
        from training.cli import register

        register(app, serve=serve)
    app.add_typer(keys_commands(), name="keys")
    for verb in (translate, score, inspect, bench, doctor, serve):
        app.command()(verb)
    return app


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Train, ship, serve and keep improving your own machine translation.

    Start with: dragoman demo
    """
    if version:
        typer.echo(f"dragoman {_version()}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def translate(
    checkpoint: CheckpointArgument,
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="INPUT",
            help="UTF-8 text, one sentence or paragraph a line; .gz too. Default: standard input.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Output file; .gz compresses it. An existing file is replaced only when the new "
            "one is complete. Default: standard output.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue an interrupted job; needs INPUT and --output."),
    ] = False,
    beam_size: BeamSize = None,
    length_penalty: LengthPenalty = None,
    n_best: Annotated[
        int | None,
        typer.Option("--n-best", min=1, help="Alternatives to show, as JSON lines."),
    ] = None,
    min_length_ratio: Annotated[
        float | None,
        typer.Option("--min-length-ratio", min=0, help="Fewest target pieces per source piece."),
    ] = None,
    max_length_ratio: Annotated[
        float | None,
        typer.Option("--max-length-ratio", min=0, help="Most target pieces per source piece."),
    ] = None,
    segmentation: Annotated[
        Segmentation,
        typer.Option(
            "--segmentation",
            help="Unit of translation: each sentence of a line (as in the service), or the whole "
            "line (`line` and `none`). Units that are too long are always split.",
        ),
    ] = "line",
    alignments: Annotated[
        bool,
        typer.Option("--alignments", help="Add pieces and their attention, as JSON lines."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line: text, score, ...")
    ] = False,
    device: Device = "cpu",
    precision: Precision = "auto",
    shortlist: UseShortlist = True,
    threads: Threads = None,
    slots: Slots = 64,
) -> None:
    """Translate a file, a pipe or typed lines.

    Writes one line for each input line, in order. Lines may end with LF or CRLF; output lines end
    with LF.

    \b
    dragoman translate models/demo letter.txt -o letter.de.txt
    """
    from service.commands.translate import translate_text
    from service.files.output_format import LineFormat

    form = LineFormat(as_json or alignments or (n_best or 1) > 1, alignments)
    translate_text(
        Loading(checkpoint, device, precision, shortlist, threads, slots),
        None if source == Path("-") else source,
        None if output == Path("-") else output,
        form,
        {
            "beam_size": beam_size,
            "length_penalty": length_penalty,
            "n_best": n_best,
            "min_length_ratio": min_length_ratio,
            "max_length_ratio": max_length_ratio,
        },
        segmentation=segmentation,
        resume=resume,
    )


def score(
    checkpoint: CheckpointArgument,
    source: Annotated[Path, typer.Option("--source", help="UTF-8 text, one sentence a line.")],
    target: Annotated[
        Path,
        typer.Option(
            "--target", help="UTF-8 text; line n is a translation of line n of the source."
        ),
    ],
    as_json: AsJson = False,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Show the log-probabilities of given translations, to rank them.

    Prints log_prob, a tab and score (log_prob after the length penalty) for each line; higher is
    better.

    \b
    dragoman score models/demo --source a.en --target a.de
    """
    from service.commands.score import score_files

    score_files(Loading(checkpoint, device, threads=threads), source, target, as_json=as_json)


def inspect(checkpoint: CheckpointArgument, as_json: AsJson = False) -> None:
    """Show a checkpoint's languages, origin, size and scores."""
    from service.commands.inspect_checkpoint import inspect as look_into

    inspection = look_into(checkpoint)
    if as_json:
        typer.echo(json.dumps(inspection.to_json(), indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(inspection.lines()))


def bench(
    checkpoint: CheckpointArgument,
    source: Annotated[
        Path | None,
        typer.Option("--source", help="Sentences. Default: the checkpoint's own examples."),
    ] = None,
    sentences: Annotated[
        int, typer.Option("--sentences", min=1, help="How many of the source's lines to use.")
    ] = 200,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision", help="May be repeated. Default: every one that this machine can run."
        ),
    ] = None,
    beam_size: Annotated[
        list[int] | None,
        typer.Option(
            "--beam-size",
            min=1,
            max=MAX_BEAM_SIZE,
            help="May be repeated. Default: 1 and 5. The checkpoint's own is measured in any case.",
        ),
    ] = None,
    rates: Annotated[
        str | None,
        typer.Option(
            "--rates",
            metavar="R,R,...",
            help="Requests per second to try. Default: 10, 25, 50, 75, 90 and 110 % of the "
            "sentences per second that the precision reaches when it translates all at once.",
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, help="Duration of the measurement at each rate.")
    ] = 5.0,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Draw latency against throughput: a .png or .svg file."),
    ] = None,
    as_json: AsJson = False,
    device: Device = "cpu",
    threads: Threads = None,
    slots: Slots = 64,
) -> None:
    """Measure throughput, latency and memory of a checkpoint on this machine.

    Each precision runs in a process of its own. At each rate requests arrive at random times (a
    Poisson process). Their latency counts from the arrival, so it includes the time in the queue.
    The JSON has an entry for each precision in "precisions", with start times, memory,
    "throughput", "alone", "open_loop" and "short_beside_long"; units are in the names.

    \b
    dragoman bench models/demo --source test.en --precision fp32 --picture bench.png
    """
    from service.bench.command import bench_checkpoint

    bench_checkpoint(
        Loading(checkpoint, device, threads=threads, slots=slots),
        precisions=precision,
        beam_sizes=beam_size,
        rates=rates,
        seconds=seconds,
        source=source,
        num_sentences=sentences,
        picture=picture,
        as_json=as_json,
    )


def doctor(
    models: Annotated[
        Path,
        typer.Argument(help="A checkpoint, or a folder of checkpoints.", metavar="MODELS"),
    ],
    host: Annotated[
        str, typer.Option("--host", help="Address that the service would use.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option("--port", min=0, max=65535, help="Port that the service would use; 0: any."),
    ] = 8000,
    as_json: AsJson = False,
) -> None:
    """Check whether MODELS can be served on this machine, and say what to do if not.

    Changes nothing. Exit status 1 when a check fails.

    \b
    dragoman doctor models
    """
    from service.commands.doctor import examine

    failed = False
    for finding in examine(models, host, port):
        failed = failed or not finding.ok
        if as_json:
            typer.echo(json.dumps(asdict(finding), ensure_ascii=False))
        else:
            typer.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.check}: {finding.detail}")
    if failed:
        raise typer.Exit(1)


def serve(
    models: Annotated[
        Path,
        typer.Argument(help="A checkpoint, or a folder of checkpoints.", metavar="MODELS"),
    ],
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: any free one.")
    ] = 8000,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1 or auto.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="fp32, bf16, int8 or auto.")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, help="Engines per model. Default: the cores divided by the models."
        ),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option("--slots", min=1, help="Sentences each engine translates at the same time."),
    ] = None,
) -> None:
    """Serve checkpoints over HTTP.

    Ctrl-C or SIGTERM stops it after all accepted requests are answered. SIGHUP reloads MODELS: new
    versions replace old ones without a pause; if one is damaged, the old version keeps serving.
    All other settings are environment variables DRAGOMAN_...: see docs/running.md.

    \b
    dragoman serve models --port 8000
    """
    from service.http.server import serve as serve_models
    from service.settings import load_settings

    settings = load_settings(
        {
            "device": device,
            "precision": precision,
            "threads_per_model": threads,
            "max_slots": slots,
        }
    )
    serve_models(models, host, port, settings)


def _version() -> str:
    try:
        return importlib.metadata.version("dragoman")
    except importlib.metadata.PackageNotFoundError:
        return "(run from its folder, not installed)"


def _complain(message: str) -> None:
    print("error: " + " ".join(message.split()), file=sys.stderr)


def _abandon_stdout() -> None:
    """Discards buffered output after its reader has gone, so that no traceback is printed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
