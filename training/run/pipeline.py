"""Runs a training from config to scores: corpus, tokenizer, network, training loop.

With several workers (`training/loop/distributed.py`) the writer runs all steps. The others wait
until the corpus is prepared and the config is complete, then train with it.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from model.checkpoint import Checkpoint, load_weights
from model.errors import ConfigError
from model.network.seq2seq import Seq2Seq
from model.text.tokenizer import TokenizerPair
from training.config import ResolvedConfig, TrainingConfig
from training.data.fit_tokenizer import fit_tokenizers
from training.data.prepare import prepare_corpus
from training.data.prepared_corpus import PreparedCorpus, open_corpus
from training.data.token_store import TokenStore
from training.errors import RunError
from training.loop.build_network import build_network, checkpoint_config, describe
from training.loop.distributed import World, process_group, this_worker
from training.loop.journal import Journal
from training.loop.loop import stopped_by_signals, train_loop
from training.loop.memory import bound_memory, peak_memory_mib
from training.loop.read_ahead import batches_of
from training.loop.trainer import Trainer
from training.loop.validation import Validator
from training.run.curves import draw_curves
from training.run.folder import RunFolder, first_difference
from training.run.resolve import resolve

SHARED_FOLDER_S = 90.0  # a network file system may show another machine's files this late

TextsOf = Callable[[], Iterator[str]]


class RunInterrupted(Exception):  # no DragomanError: stopping was asked for
    """Raised after a signal stopped the run; its state was saved, so it can be resumed."""


@dataclass(frozen=True)
class Parent:
    """A checkpoint to retrain: its tokenizers and weights replace new ones."""

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
    """Runs or resumes the whole pipeline in the folder `run`.

    On resume `asked` may be None; then the recorded config is used. Raises RunInterrupted when a
    signal stopped the run after it was saved, and DragomanError for wrong input or settings.
    """
    bound_memory()
    console = console or Console(stderr=True)
    world = this_worker()
    folder = RunFolder(run)
    parent_name = f"{parent.name} {parent.version}" if parent else None
    asked = _check_start(asked, folder, resume, parent_name)
    device = world.device(asked.device)  # a missing device is found before the corpus is read
    lock = folder.locked() if world.is_writer else nullcontext()
    with process_group(world, device) as world, lock:
        if world.is_writer:
            corpus, resolved = _start(asked, folder, parent, parent_name, console, world)
            world.broadcast_text(resolved.model_dump_json())
        else:
            resolved = ResolvedConfig.model_validate_json(world.broadcast_text(""))
            corpus = _open_started(resolved, folder, parent, world)
        torch.set_num_threads(resolved.threads or 1)
        with stopped_by_signals() as stop:
            finished = _train_network(resolved, corpus, folder, parent, world, stop, console)
    if not finished:
        raise RunInterrupted


def _start(
    asked: TrainingConfig,
    folder: RunFolder,
    parent: Parent | None,
    parent_name: str | None,
    console: Console,
    world: World,
) -> tuple[PreparedCorpus, ResolvedConfig]:
    """Prepares the corpus or opens the prepared one, completes the config and records it."""
    recorded = folder.resolved_config() if folder.started else None
    if recorded is None:
        corpus = prepare_for_run(asked, folder.data, console, parent)
    else:
        tokenizer = None if parent else asked.tokenizer
        corpus = open_corpus(
            folder.data, asked.data, tokenizer=tokenizer, report=partial(_print, console)
        )
    resolved = resolve(asked, recorded, corpus, world)
    # Recorded last, so that a start that failed for a wrong file can be repeated unchanged.
    folder.write_config(asked, resolved, parent_name)
    return corpus, resolved


def _open_started(
    config: ResolvedConfig, folder: RunFolder, parent: Parent | None, world: World
) -> PreparedCorpus:
    """Opens, in another worker, the corpus that the writer prepared."""
    end = time.monotonic() + SHARED_FOLDER_S
    while not folder.started:
        if time.monotonic() > end:
            raise RunError(
                f"worker {world.rank + 1} found no run in {folder.path} within "
                f"{SHARED_FOLDER_S:.0f} s; a run on several machines needs a folder that all of "
                f"them share"
            )
        time.sleep(0.2)
    recorded = None if parent else config.tokenizer
    return open_corpus(folder.data, config.data, tokenizer=recorded, report=lambda message: None)


def _check_start(
    asked: TrainingConfig | None, folder: RunFolder, resume: bool, parent_name: str | None
) -> TrainingConfig:
    if folder.foreign:
        raise RunError(
            f"{folder.path} holds files that no training run wrote; name another folder with --run"
        )
    if not resume:
        if folder.started:
            folder.asked_config()  # refuses a config.json that is not of a run
            raise RunError(
                f"{folder.path} already holds a run; add --resume to continue it, "
                f"or name another folder with --run"
            )
        if asked is None:
            raise RunError("a new run needs a config, or --source and --target")
        return asked
    if not folder.started:
        raise RunError(f"there is no run to resume in {folder.path}; leave out --resume")
    before = folder.asked_config()
    if folder.parent() != parent_name:
        raise RunError(
            f"the run in {folder.path} started from checkpoint {folder.parent() or 'none'}, not "
            f"from {parent_name or 'none'}; resume it with the command that started it"
        )
    if asked is None:
        return before
    if difference := first_difference(before, asked):
        raise RunError(f"a resumed run keeps its settings, but {difference}; start a new run")
    return asked


def prepare_for_run(
    config: TrainingConfig, folder: Path, console: Console, parent: Parent | None
) -> PreparedCorpus:
    """Prepares the corpus of a run in `folder`, with new tokenizers or those of the parent."""
    report = partial(_print, console)

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
                report=report,
            )

    tokenizer = None if parent else config.tokenizer
    return prepare_corpus(config.data, tokenizer=tokenizer, folder=folder, fit=fit, report=report)


def _print(console: Console, message: str) -> None:
    console.print(message, markup=False, highlight=False, soft_wrap=True)


def _train_network(
    config: ResolvedConfig,
    corpus: PreparedCorpus,
    folder: RunFolder,
    parent: Parent | None,
    world: World,
    stop: threading.Event,
    console: Console,
) -> bool:
    """Trains until a limit is reached (True) or a signal stops it (False)."""
    network = build_network(config, corpus.tokenizers, world.device(config.device))
    if parent is not None:
        try:
            load_weights(network, parent.weights)
        except ValueError as error:
            raise ConfigError(
                f"checkpoint {parent.name} has another architecture than the run: {error}; leave "
                f"out the settings of model"
            ) from None
    trainer = Trainer(network, config, folder.states, world=world)
    if folder.has_state:
        trainer.resume()
    trainer.agree_on_start()
    _continue_within_new_limits(trainer, config)
    if not world.is_writer:
        train_loop(trainer, corpus.train, journal=None, validate=None, stop=stop, total_steps=0)
        return bool(trainer.progress.finished)
    validate = build_validator(folder.path.name, config, network, corpus)
    total_steps = _total_steps(config, corpus.train)
    with Journal(
        folder.path, total_steps=total_steps, resumed_step=trainer.progress.step, console=console
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
        if trainer.progress.finished:
            journal.say(
                f"finished after {trainer.progress.step:,} updates and "
                f"{trainer.progress.seconds / 60:.1f} min: {trainer.progress.finished}"
            )
        journal.say(peak_line(trainer.device))
    return bool(trainer.progress.finished)


def build_validator(
    name: str, config: ResolvedConfig, network: Seq2Seq, corpus: PreparedCorpus
) -> Validator:
    """Returns the function that scores the network on the dev split."""
    in_memory = Checkpoint(
        name=name,
        version="training",
        config=checkpoint_config(config, network, corpus.tokenizers, corpus.train),
        network=network,
        tokenizers=corpus.tokenizers,
        metrics={},
        precision="fp32",
    )
    return Validator(in_memory, corpus.dev_pairs, max_sentences=config.validation.max_sentences)


def peak_line(device: torch.device) -> str:
    """Returns the line that tells a run's peak memory."""
    kind = "GPU memory" if device.type == "cuda" else "memory"
    return f"{kind}: {peak_memory_mib(device):,.0f} MiB at the peak"


def _continue_within_new_limits(trainer: Trainer, config: ResolvedConfig) -> None:
    """Lets a finished run continue if it was resumed with higher limits."""
    progress, limits = trainer.progress, config.optimization
    epochs_left = progress.epoch < limits.max_epochs
    steps_left = limits.max_steps is None or progress.step < limits.max_steps
    if epochs_left and steps_left and progress.since_best < config.validation.patience:
        progress.finished = ""


def _total_steps(config: ResolvedConfig, store: TokenStore) -> int:
    per_epoch = -(-len(batches_of(config, store, epoch=0)) // config.optimization.accumulate)
    steps = per_epoch * config.optimization.max_epochs
    return min(steps, config.optimization.max_steps or steps)
