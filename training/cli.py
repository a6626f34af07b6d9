"""Commands of `dragoman` that belong to training: demo, train, export, retrain, evaluate.

Modules that import torch are imported inside the commands, so that `--help` answers at once.
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
    typer.Option("--run", metavar="RUN", help="Folder for the run: its states, log and scores."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting of the recipe, such as optimization.max_epochs=10. Repeatable.",
    ),
]


class ExportedState(StrEnum):
    """The run state whose weights are exported."""

    best = "best"
    average = "average"
    last = "last"


def register(app: typer.Typer, *, serve: Serve) -> None:
    """Adds the training commands to `app`; the demo calls `serve` at its end.

    `serve` is an argument because training must not import service.
    """

    @app.command()
    def demo(
        folder: Annotated[
            Path, typer.Option("--folder", help="Folder for the demo's corpus, run and checkpoint.")
        ] = Path("demo"),
        host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
        port: Annotated[
            int, typer.Option("--port", min=0, max=65535, help="Port; 0: any free one.")
        ] = 8000,
        no_serve: Annotated[
            bool, typer.Option("--no-serve", help="Train and score, but do not serve.")
        ] = False,
    ) -> None:
        """Train a small English-German translator and serve it.

        Training takes about three minutes and happens only once. Ctrl-C stops the server.
        """
        from training.demo.demo import run_demo
        from training.run.pipeline import RunInterrupted

        if not no_serve:
            _refuse_busy_port(host, port)  # before minutes of training
        try:
            models = run_demo(folder)
        except RunInterrupted:
            typer.echo("stopped and saved; the same command continues", err=True)
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
        typer.Argument(
            metavar="CONFIG", help="TOML recipe. Not needed with --source and --target."
        ),
    ] = None,
    run: RunOption = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Folder of the recipe's corpora. Default: the recipe's own folder."
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--source", help="Source text, one sentence per line, or .gz.")
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option("--target", help="Target text; line n translates line n of the source."),
    ] = None,
    source_language: Annotated[
        str | None, typer.Option("--source-language", help="BCP 47 code such as en or zh-Hans.")
    ] = None,
    target_language: Annotated[
        str | None, typer.Option("--target-language", help="BCP 47 code such as de or pt-BR.")
    ] = None,
    settings: SetOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run, exactly.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Forecast time and memory; train nothing, keep nothing."),
    ] = False,
) -> None:
    """Train a translator from sentence pairs.

    Cleans the corpus, fits the tokenizer, and trains until the dev score stops rising.
    Ctrl-C saves a run state; the same command with --resume continues.
    To use several GPUs or machines, start the command with torchrun. The result is the same.
    All machines must share the folder of the run; `threads` counts per worker.

    \b
    dragoman train recipe.toml --run runs/first
    dragoman train --source a.en --target a.de --source-language en --target-language de --run r
    torchrun --nproc-per-node 4 --no-python -- dragoman train recipe.toml --run runs/first
    """
    from training.recipe_file import load_config

    if run is None and not dry_run:
        raise typer.BadParameter("a folder for the run is required", param_hint="--run")
    inline = _inline_data(source, target, source_language, target_language, config)
    asked = None
    if config is not None or inline or not resume:
        if config is None and not inline:
            raise typer.BadParameter("no corpus given: name a recipe, or --source and --target")
        base = Path.cwd() if data is None and config is None else data
        asked = load_config(config, data=base, overrides=settings, inline=inline)
        if config is not None and data is None and not resume:
            _check_corpora_exist(config, asked)
    elif settings:
        raise typer.BadParameter(
            "--set with --resume needs the recipe of the run too, to compare the settings"
        )
    if dry_run and asked is None:
        raise typer.BadParameter("--dry-run cannot be combined with --resume")
    if dry_run:
        from training.run.dry_run import dry_run as estimate

        assert asked is not None
        estimate(asked)
        return
    from training.loop.distributed import exit_worker, this_worker
    from training.run import pipeline

    assert run is not None
    try:
        pipeline.train(asked, run, resume=resume)
    except pipeline.RunInterrupted:
        if this_worker().is_writer:
            typer.echo(
                f"stopped and saved; continue with: dragoman train --run {run} --resume", err=True
            )
        exit_worker(this_worker(), _EXIT_INTERRUPTED)
        raise typer.Exit(_EXIT_INTERRUPTED) from None
    if this_worker().is_writer:
        typer.echo(f"next, export a checkpoint: dragoman export {run} CHECKPOINT", err=True)
    exit_worker(this_worker(), 0)


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.", metavar="RUN")],
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="Folder to write. An older checkpoint there is replaced.", metavar="CHECKPOINT"
        ),
    ],
    which: Annotated[
        ExportedState,
        typer.Option(
            "--which", help="State to export: best on dev, average of the best ones, or last."
        ),
    ] = ExportedState.best,
    shortlist: Annotated[
        bool,
        typer.Option(
            "--shortlist/--no-shortlist",
            help="Learn likely translations of each word, which makes translating faster.",
        ),
    ] = True,
) -> None:
    """Export a training run as a checkpoint, scored and ready to serve."""
    from training.release.export import export as export_run

    export_run(run, checkpoint, which=which.value, with_shortlist=shortlist)


def retrain(
    checkpoint: CheckpointArgument,
    source: Annotated[
        Path, typer.Option("--source", help="New source text, one sentence per line, or .gz.")
    ],
    target: Annotated[
        Path, typer.Option("--target", help="Target text; line n translates line n of the source.")
    ],
    run: Annotated[Path, typer.Option("--run", metavar="RUN", help="Folder for the new run.")],
    settings: SetOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run, exactly.")
    ] = False,
) -> None:
    """Train a checkpoint further on new sentence pairs.

    Then compares the old and the new checkpoint on pairs held out of the new text.
    Without the old corpus among the new pairs, the network forgets part of what it learnt.

    \b
    dragoman retrain models/en-de --source new.en --target new.de --run runs/week-47
    """
    from training.release.retrain import retrain as go_on
    from training.run.pipeline import RunInterrupted

    try:
        go_on(checkpoint, source, target, run, overrides=settings or [], resume=resume)
    except RunInterrupted:
        typer.echo("stopped and saved; the same command with --resume continues", err=True)
        raise typer.Exit(_EXIT_INTERRUPTED) from None


def evaluate(
    checkpoint: CheckpointArgument,
    second: Annotated[
        Path | None,
        typer.Argument(
            metavar="CHECKPOINT2", help="Second checkpoint, compared by paired bootstrap."
        ),
    ] = None,
    source: Annotated[
        Path, typer.Option("--source", help="Source text, one sentence per line, or .gz.")
    ] = ...,  # type: ignore[assignment]  # typer's mark of a required option
    reference: Annotated[
        Path,
        typer.Option(
            "--reference", help="Reference translations; line n translates line n of the source."
        ),
    ] = ...,  # type: ignore[assignment]
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="JSON file for the scores, besides printing them."),
    ] = None,
    hypotheses: Annotated[
        Path | None,
        typer.Option(
            "--hypotheses",
            help="File for the translations; a second checkpoint's go to FILE.2.",
        ),
    ] = None,
    beam_size: Annotated[
        int | None,
        typer.Option(
            "--beam-size", min=1, max=1000, help="Hypotheses. Default: the checkpoint's own."
        ),
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option("--length-penalty", help="Exponent. Default: the checkpoint's own."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1 or auto.")] = "cpu",
    precision: Annotated[
        str, typer.Option("--precision", help="fp32, bf16, int8 or auto. fp32 is the reference.")
    ] = "fp32",
    shortlist: Annotated[
        bool,
        typer.Option(
            "--shortlist/--no-shortlist", help="Use the checkpoint's shortlist, if it has one."
        ),
    ] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="CPU threads. Default: one per core.")
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
    """Returns the part of the config's [data] table that options give."""
    if (source is None) != (target is None):
        missing = "--target" if target is None else "--source"
        raise typer.BadParameter("--source and --target need each other", param_hint=missing)
    fields: dict[str, Any] = {}
    if source is not None:
        fields["train"] = [{"source": str(source), "target": str(target)}]
    if source_language is not None:
        fields["source_language"] = source_language
    if target_language is not None:
        fields["target_language"] = target_language
    if recipe is None and source is not None and len(fields) < 3:
        raise typer.BadParameter(
            "--source and --target need --source-language and --target-language, such as en and de"
        )
    return {"data": fields} if fields else {}


def _check_corpora_exist(recipe: Path, config: "TrainingConfig") -> None:
    """Raises ConfigError for a corpus that does not exist, when --data was not given."""
    corpora = (*config.data.train, config.data.dev, config.data.test)
    for path in (path for corpus in corpora if corpus is not None for path in corpus.files()):
        if not path.exists():
            raise ConfigError(
                f"corpus {path} of recipe {recipe} does not exist; "
                f"name the folder of its corpora with --data"
            )


def _refuse_busy_port(host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise ConfigError(
            f"cannot listen on {host} port {port}: {reason}; choose another --port (PORT= for make)"
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
