"""Training's verbs of the `dragoman` command: demo, train, export, retrain, evaluate.

torch and what needs it are imported inside the verbs, so that `--help` answers at once.
"""

import json
import os
import socket
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.errors import ConfigError

if TYPE_CHECKING:
    from training.config import TrainingConfig

_EXIT_INTERRUPTED = 130

Serve = Callable[[Path, str, int], None]  # models folder, host, port; returns when stopped

CheckpointArgument = Annotated[
    Path, typer.Argument(help="Checkpoint folder.", metavar="CHECKPOINT")
]
RunOption = Annotated[
    Path | None,
    typer.Option("--run", metavar="RUN", help="Folder of the run: states, logs, scores."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting of the recipe, as optimization.max_epochs=10; may be repeated.",
    ),
]


class Which(StrEnum):
    """Whose weights are exported."""

    best = "best"
    average = "average"
    last = "last"


def register(app: typer.Typer, *, serve: Serve) -> None:
    """Attach training's verbs; `serve` is what the demo ends with (training imports no service)."""

    @app.command()
    def demo(
        folder: Annotated[
            Path, typer.Option("--folder", help="Where the demo's run and checkpoint go.")
        ] = Path("demo"),
        host: Annotated[str, typer.Option("--host", help="Address to serve at.")] = "127.0.0.1",
        port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8000,
        no_serve: Annotated[
            bool, typer.Option("--no-serve", help="Stop after training and scoring.")
        ] = False,
    ) -> None:
        """Train a small English-German translator and serve it.

        Trains for about three minutes the first time; serves until Ctrl-C.
        """
        from training.demo.demo import run_demo
        from training.run.pipeline import Interrupted

        if not no_serve:
            _refuse_busy_port(host, port)  # now rather than after the training
        try:
            models = run_demo(folder)
        except Interrupted:
            typer.echo("stopped; the same command goes on from there", err=True)
            raise typer.Exit(_EXIT_INTERRUPTED) from None
        if not no_serve:
            if port:
                typer.echo(_curl_line(host, port))
            serve(models, host, port)

    for verb in (train, export, retrain, evaluate):
        app.command()(verb)


def train(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG", help="TOML recipe; or name two files with --source."),
    ] = None,
    run: RunOption = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder that the recipe's relative paths start at."),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--source", help="Source text, one sentence a line; .gz too.")
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option("--target", help="Line n is the translation of line n of the source."),
    ] = None,
    source_language: Annotated[
        str | None, typer.Option("--source-language", help="BCP 47 code, as en or zh-Hans.")
    ] = None,
    target_language: Annotated[
        str | None, typer.Option("--target-language", help="BCP 47 code, as de or pt-BR.")
    ] = None,
    settings: SetOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run, exactly.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Read, clean, count, estimate; train nothing."),
    ] = False,
) -> None:
    """Train a translator from sentence pairs.

    Reads, cleans, fits the tokenizer, trains until the dev score stops rising.
    Ctrl-C saves a run state; the same command with --resume goes on.
    On several GPUs or machines torchrun starts it, with the same result, sooner; threads are
    those of each worker, and the folder of the run is shared by the machines.

    \b
    dragoman train recipe.toml --run runs/first
    dragoman train --source a.en --target a.de --source-language en --target-language de --run r
    torchrun --nproc-per-node 4 --no-python -- dragoman train recipe.toml --run runs/first
    """
    from training.config import load_config

    if run is None and not dry_run:
        raise typer.BadParameter("name a folder for the run", param_hint="--run")
    inline = _inline_data(source, target, source_language, target_language, config)
    asked = None
    if config is not None or inline or not resume:
        if config is None and not inline:
            raise typer.BadParameter("name a recipe, or two files with --source and --target")
        base = Path.cwd() if data is None and config is None else data
        asked = load_config(config, data=base, overrides=settings, inline=inline)
        if config is not None and data is None and not resume:
            _look_beside(config, asked)
    elif settings:
        raise typer.BadParameter("a resumed run keeps its settings; name its recipe to compare")
    if dry_run and asked is None:
        raise typer.BadParameter("--dry-run and --resume do not go together")
    if dry_run:
        from training.run.dry_run import dry_run as estimate

        assert asked is not None
        estimate(asked)
        return
    from training.loop.distributed import leave, this_worker
    from training.run import pipeline

    assert run is not None
    try:
        pipeline.train(asked, run, resume=resume)
    except pipeline.Interrupted:
        if this_worker().is_writer:
            typer.echo(f"stopped; go on with: dragoman train --run {run} --resume", err=True)
        leave(this_worker(), _EXIT_INTERRUPTED)
        raise typer.Exit(_EXIT_INTERRUPTED) from None
    if this_worker().is_writer:
        typer.echo(f"make a checkpoint of it with: dragoman export {run} CHECKPOINT", err=True)
    leave(this_worker(), 0)


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.", metavar="RUN")],
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="Folder to write; an older checkpoint there is replaced.", metavar="CHECKPOINT"
        ),
    ],
    which: Annotated[
        Which,
        typer.Option("--which", help="Best on dev, average of the kept best ones, or last."),
    ] = Which.best,
    shortlist: Annotated[
        bool,
        typer.Option(
            "--shortlist/--no-shortlist",
            help="Learn which target words go with which source words: faster translation.",
        ),
    ] = True,
) -> None:
    """Make a checkpoint of a training run: scored, ready to serve."""
    from training.release.export import export as export_run

    export_run(run, checkpoint, which=which.value, with_shortlist=shortlist)


def retrain(
    checkpoint: CheckpointArgument,
    source: Annotated[Path, typer.Option("--source", help="New source text; .gz too.")],
    target: Annotated[
        Path, typer.Option("--target", help="Line n is the translation of line n of the source.")
    ],
    run: Annotated[Path, typer.Option("--run", metavar="RUN", help="Folder of the new run.")],
    settings: SetOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run, exactly.")
    ] = False,
) -> None:
    """Go on from a checkpoint with new sentence pairs.

    Then compares old and new on held-out pairs.

    \b
    dragoman retrain models/en-de --source new.en --target new.de --run runs/week-47
    """
    from training.release.retrain import retrain as go_on
    from training.run.pipeline import Interrupted

    try:
        go_on(checkpoint, source, target, run, overrides=settings or [], resume=resume)
    except Interrupted:
        typer.echo("stopped; the same command with --resume goes on from there", err=True)
        raise typer.Exit(_EXIT_INTERRUPTED) from None


def evaluate(
    checkpoint: CheckpointArgument,
    second: Annotated[
        Path | None,
        typer.Argument(metavar="CHECKPOINT2", help="Compare with this one, by paired bootstrap."),
    ] = None,
    source: Annotated[
        Path, typer.Option("--source", help="Source text, one sentence a line; .gz too.")
    ] = ...,  # type: ignore[assignment]  # typer's mark of a required option
    reference: Annotated[
        Path, typer.Option("--reference", help="Line n is the right translation of line n.")
    ] = ...,  # type: ignore[assignment]
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the scores here, as JSON.")
    ] = None,
    hypotheses: Annotated[
        Path | None,
        typer.Option(
            "--hypotheses",
            help="Keep the translations here (those of a second checkpoint in FILE.2).",
        ),
    ] = None,
    beam_size: Annotated[
        int | None,
        typer.Option("--beam-size", min=1, max=1000, help="Default: each checkpoint's own."),
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option("--length-penalty", help="Default: each checkpoint's own."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 or auto.")] = "cpu",
    precision: Annotated[
        str, typer.Option("--precision", help="fp32, bf16, int8 or auto. fp32 is the reference.")
    ] = "fp32",
    shortlist: Annotated[
        bool,
        typer.Option("--shortlist/--no-shortlist", help="With the checkpoint's, if it has one."),
    ] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="CPU threads. Default: one a core.")
    ] = None,
) -> None:
    """Score a checkpoint, or compare two: BLEU, chrF, TER.

    Without further options translations are the exact ones, the same on every machine; what speed
    costs shows with --precision int8 --shortlist.

    \b
    dragoman evaluate models/demo --source test.en --reference test.de
    """
    from training.evaluation.command import Evaluation, evaluate_checkpoints

    checkpoints = [checkpoint] if second is None else [checkpoint, second]
    evaluation = Evaluation(
        source,
        reference,
        hypotheses,
        output,
        beam_size,
        length_penalty,
        device,
        precision,
        shortlist,
        threads,
    )
    report, lines = evaluate_checkpoints(checkpoints, evaluation)
    typer.echo(json.dumps(report, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))


def _inline_data(
    source: Path | None,
    target: Path | None,
    source_language: str | None,
    target_language: str | None,
    recipe: Path | None,
) -> dict[str, dict[str, Any]]:
    """The config's [data] table as far as options give it."""
    if (source is None) != (target is None):
        missing = "--target" if target is None else "--source"
        raise typer.BadParameter("--source and --target go together", param_hint=missing)
    fields: dict[str, Any] = {}
    if source is not None:
        fields["train"] = [{"source": str(source), "target": str(target)}]
    if source_language is not None:
        fields["source_language"] = source_language
    if target_language is not None:
        fields["target_language"] = target_language
    if recipe is None and source is not None and len(fields) < 3:
        raise typer.BadParameter(
            "--source and --target need --source-language and --target-language, as en and de"
        )
    return {"data": fields} if fields else {}


def _look_beside(recipe: Path, config: "TrainingConfig") -> None:
    """ConfigError when a recipe's corpora are not where they are looked for without --data."""
    corpora = (*config.data.train, config.data.dev, config.data.test)
    for path in (path for corpus in corpora if corpus is not None for path in corpus.files()):
        if not path.exists():
            raise ConfigError(
                f"{recipe} names {path.name}, and there is no {path}; "
                f"say with --data in which folder its corpora are"
            )


def _refuse_busy_port(host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise ConfigError(
            f"cannot serve at {host} port {port}: {reason}; choose another --port (PORT= for make)"
        ) from None


def _curl_line(host: str, port: int) -> str:
    body = json.dumps(
        {
            "text": "When does the train from Zurich arrive on Sunday?",
            "source": "en",
            "target": "de",
        }
    )
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"curl http://{host}:{port}/v1/translate -H 'content-type: application/json' -d '{body}'"
