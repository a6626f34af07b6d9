"""The whole road of a run: config -> corpus -> tokenizer -> network -> training -> scores.

With several workers (`distributed.py`) the first one walks it all; the others join it where the
corpus is prepared and the config complete, to train.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from model.checkpoint import Checkpoint, load_weights
from model.errors import ConfigError
from model.text.tokenizer import TokenizerPair
from training.config import TrainingConfig
from training.data.fit_tokenizer import fit_tokenizers
from training.data.prepare import prepare
from training.data.prepared import PreparedCorpus, open_prepared
from training.data.token_store import TokenStore
from training.errors import RunError
from training.loop.build_network import build_network, checkpoint_config, describe
from training.loop.distributed import World, joined, this_worker
from training.loop.journal import Journal
from training.loop.loop import stopped_by_signals, train_loop
from training.loop.read_ahead import batches_of
from training.loop.trainer import Trainer
from training.loop.validation import Validator
from training.run.curves import draw_curves
from training.run.folder import RunFolder, first_difference
from training.run.resolve import resolve

SHARED_FOLDER_S = 90.0  # until a network file system shows what another machine wrote


TextsOf = Callable[[], Iterator[str]]


class Interrupted(Exception):  # not an error: the run was asked to stop
    """The run was stopped by a signal and can be resumed."""


@dataclass(frozen=True)
class Parent:
    """A checkpoint to go on from, instead of new tokenizers and random weights."""

    name: str
    version: str
    tokenizers: TokenizerPair
    weights: dict[str, torch.Tensor]


def train(
    asked: TrainingConfig | None,
    run: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
    parent: Parent | None = None,
) -> None:
    """Runs, or resumes, the whole pipeline in the folder `run`.

    On resume `asked` may be None: the recorded config is taken. Raises Interrupted when a signal
    stopped it after saving, and DragomanError for what cannot work.
    """
    console = console or Console(stderr=True)
    world = this_worker()
    folder = RunFolder(run)
    parent_name = f"{parent.name} {parent.version}" if parent else None
    asked = _check_start(asked, folder, resume, parent_name)
    device = world.device(asked.device)  # one that is not there shows before the corpus is read
    lock = folder.locked() if world.is_writer else nullcontext()
    with joined(world, device) as world, lock:
        if world.is_writer:
            corpus, resolved = _start(asked, folder, parent, parent_name, console, world)
            world.spread(resolved.model_dump_json())
        else:
            resolved = TrainingConfig.model_validate_json(world.spread(""))
            corpus = _open_started(resolved, folder, parent, world)
        torch.set_num_threads(resolved.threads or 1)
        with stopped_by_signals() as stop:
            finished = _train_network(resolved, corpus, folder, parent, world, stop, console)
    if not finished:
        raise Interrupted


def _start(
    asked: TrainingConfig,
    folder: RunFolder,
    parent: Parent | None,
    parent_name: str | None,
    console: Console,
    world: World,
) -> tuple[PreparedCorpus, TrainingConfig]:
    """Prepares the corpus or opens it again, completes the config and records it."""
    recorded = folder.read_config("resolved") if folder.started else None
    corpus = prepare_corpus(asked, folder.data, console, parent, again=recorded is not None)
    resolved = resolve(asked, recorded, corpus, world)
    # Only now: a start that failed for a wrong file can be tried again as it was.
    folder.write_config(asked, resolved, parent_name)
    return corpus, resolved


def _open_started(
    config: TrainingConfig, folder: RunFolder, parent: Parent | None, world: World
) -> PreparedCorpus:
    """What the writer prepared, for another worker."""
    end = time.monotonic() + SHARED_FOLDER_S
    while not folder.started:
        if time.monotonic() > end:
            raise RunError(
                f"worker {world.rank + 1} finds no {folder.path} on its machine; a run on several "
                f"machines needs a folder that all of them share"
            )
        time.sleep(0.2)
    recorded = None if parent else config.tokenizer
    return open_prepared(folder.data, config.data, tokenizer=recorded, report=lambda message: None)


def _check_start(
    asked: TrainingConfig | None, folder: RunFolder, resume: bool, parent_name: str | None
) -> TrainingConfig:
    if folder.foreign:
        raise RunError(f"{folder.path} holds something else than a run; name another with --run")
    if not resume:
        if folder.started:
            folder.read_config("asked")  # refuses a config.json that is not of a run
            raise RunError(
                f"{folder.path} already holds a run; add --resume to go on with it, "
                f"or name another folder with --run"
            )
        if asked is None:
            raise RunError("a new run needs a config, or --source and --target")
        return asked
    if not folder.started:
        raise RunError(f"there is no run to resume in {folder.path}; leave out --resume")
    before = folder.read_config("asked")
    assert before is not None  # config.json always has it
    if folder.parent() != parent_name:
        raise RunError(
            f"{folder.path} goes on from {folder.parent() or 'no checkpoint'}, not from "
            f"{parent_name or 'none'}; resume it with the command that started it"
        )
    if asked is None:
        return before
    if difference := first_difference(before, asked):
        raise RunError(f"a resumed run keeps its settings, but {difference}; start a new run")
    return asked


def prepare_corpus(
    config: TrainingConfig, folder: Path, console: Console, parent: Parent | None, *, again: bool
) -> PreparedCorpus:
    """Reads, cleans and tokenizes into `folder`, or opens what is there `again`."""

    def say(message: str) -> None:
        console.print(message, markup=False, highlight=False, soft_wrap=True)

    recorded = None if parent else config.tokenizer
    if again:
        return open_prepared(folder, config.data, tokenizer=recorded, report=say)

    def fit(source_texts: TextsOf, target_texts: TextsOf) -> TokenizerPair:
        if parent is not None:
            return parent.tokenizers
        with tempfile.TemporaryDirectory(prefix="dragoman-tokenizer-") as scratch:
            return fit_tokenizers(
                source_texts,
                target_texts,
                config=config.tokenizer,
                source_language=config.data.source_language,
                target_language=config.data.target_language,
                folder=Path(scratch),
                seed=config.seed,
                report=say,
            )

    return prepare(config.data, tokenizer=recorded, folder=folder, fit=fit, report=say)


def _train_network(
    config: TrainingConfig,
    corpus: PreparedCorpus,
    folder: RunFolder,
    parent: Parent | None,
    world: World,
    stop: threading.Event,
    console: Console,
) -> bool:
    """Whether an end was reached; False when training was asked to stop before."""
    network = build_network(config, corpus.tokenizers, world.device(config.device))
    if parent is not None:
        try:
            load_weights(network, parent.weights)
        except ValueError as error:
            raise ConfigError(
                f"{parent.name} has another architecture than the run asks for: {error}; leave "
                f"the settings of model as they are"
            ) from None
    trainer = Trainer(network, config, folder.states, world=world)
    if folder.has_state:
        trainer.resume()
    trainer.agree_on_start()
    _reopen_if_given_more(trainer, config)
    if not world.is_writer:
        train_loop(trainer, corpus.train, journal=None, validate=None, stop=stop, total_steps=0)
        return bool(trainer.place.finished)
    in_memory = Checkpoint(
        name=folder.path.name,
        version="training",
        config=checkpoint_config(config, network, corpus.tokenizers, corpus.train),
        network=network,
        tokenizers=corpus.tokenizers,
        metrics={},
        precision="fp32",
    )
    validate = Validator(in_memory, corpus.dev_pairs, max_sentences=config.validation.max_sentences)
    total_steps = _total_steps(config, corpus.train)
    with Journal(
        folder.path, total_steps=total_steps, resumed_step=trainer.place.step, console=console
    ) as journal:
        journal.say(describe(network))
        workers = f"{world.size} workers, " if world.size > 1 else ""
        journal.say(
            f"training on {trainer.device} in {config.optimization.precision}, {workers}"
            f"{config.threads} threads, batches of {config.optimization.batch_tokens:,} tokens, "
            f"at most {total_steps:,} updates"
        )
        train_loop(
            trainer,
            corpus.train,
            journal=journal,
            validate=validate,
            stop=stop,
            total_steps=total_steps,
        )
        draw_curves(folder.path)
        if trainer.place.finished:
            journal.say(
                f"finished after {trainer.place.step:,} updates and "
                f"{trainer.place.seconds / 60:.1f} min: {trainer.place.finished}"
            )
    return bool(trainer.place.finished)


def _reopen_if_given_more(trainer: Trainer, config: TrainingConfig) -> None:
    """A finished run that is resumed with wider limits goes on."""
    place, limits = trainer.place, config.optimization
    epochs_left = limits.max_epochs is None or place.epoch < limits.max_epochs
    steps_left = limits.max_steps is None or place.step < limits.max_steps
    if epochs_left and steps_left and place.since_best < config.validation.patience:
        place.finished = ""


def _total_steps(config: TrainingConfig, store: TokenStore) -> int:
    per_epoch = -(-len(batches_of(config, store, epoch=0)) // config.optimization.accumulate)
    steps = per_epoch * (config.optimization.max_epochs or 1)
    return min(steps, config.optimization.max_steps or steps)
