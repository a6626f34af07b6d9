"""The whole road of a run: config -> corpus -> tokenizer -> network -> training -> scores."""

import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from model.checkpoint import Checkpoint, CheckpointConfig, TokenizerDescription, load_weights
from model.config import ModelConfig
from model.dropout import DropoutRates
from model.errors import ConfigError
from model.precision import resolve_device
from model.process import num_cores
from model.seq2seq import Seq2Seq, count_parameters
from model.tokenizer import TokenizerPair
from training.batching import epoch_batches, read_batch
from training.config import TrainingConfig
from training.corpus import prepare
from training.curves import draw_curves
from training.defaults import fill_defaults
from training.errors import RunError
from training.fit_tokenizer import fit_tokenizers
from training.journal import Journal
from training.prepared import PreparedCorpus, open_prepared
from training.run_folder import RunFolder, first_difference
from training.token_store import TokenStore
from training.trainer import Trainer, stopped_by_signals, train_loop, training_dtype
from training.validation import Validator

TRIAL_UPDATES = 8  # of a dry run, to measure speed and memory


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
    folder = RunFolder(run)
    parent_name = f"{parent.name} {parent.version}" if parent else None
    asked = _check_start(asked, folder, resume, parent_name)
    resolve_device(asked.device)  # a device that is not there shows before the corpus is read
    with folder.locked():
        recorded = folder.read_config("resolved") if folder.started else None
        corpus = _prepare(asked, folder.data, console, parent, again=recorded is not None)
        resolved = resolve(asked, recorded, corpus)
        # Only now: a start that failed for a wrong file can be tried again as it was.
        folder.write_config(asked, resolved, parent_name)
        with stopped_by_signals() as stop:
            _train_network(resolved, corpus, folder, parent, stop, console)


def resolve(
    asked: TrainingConfig, recorded: TrainingConfig | None, corpus: PreparedCorpus
) -> TrainingConfig:
    """Every None filled in; what was measured on this machine is kept from the first start."""
    filled = fill_defaults(asked, len(corpus.train))
    threads = asked.threads or (recorded.threads if recorded else None) or num_cores()
    torch.set_num_threads(threads)
    if recorded is not None:
        precision = recorded.optimization.precision
    else:
        dtype = training_dtype(filled.optimization, resolve_device(asked.device))
        precision = "bf16" if dtype == torch.bfloat16 else "fp32"
    optimization = filled.optimization.model_copy(update={"precision": precision})
    return filled.model_copy(update={"optimization": optimization, "threads": threads})


def dry_run(asked: TrainingConfig, console: Console | None = None) -> None:
    """Reads, cleans, counts and builds, then tells what a run would take; leaves nothing behind."""
    console = console or Console(stderr=True)
    resolve_device(asked.device)
    with tempfile.TemporaryDirectory(prefix="dragoman-dry-run-") as scratch:
        corpus = _prepare(asked, Path(scratch) / "data", console, None, again=False)
        config = resolve(asked, None, corpus)
        network = build_network(config, corpus.tokenizers)
        trainer = Trainer(network, config, Path(scratch))
        console.print(describe(network), markup=False, highlight=False, soft_wrap=True)
        batches = _first_epoch(config, corpus.train)
        trial = batches[: TRIAL_UPDATES + 2]
        tokens, seconds = 0, 0.0
        for number, pairs in enumerate(trial):
            batch = read_batch(corpus.train, pairs)
            start = time.monotonic()
            trainer.update([batch])
            if number >= min(2, len(trial) - 1):  # the first updates warm up
                seconds += time.monotonic() - start
                tokens += batch.num_target_tokens
        speed = tokens / max(seconds, 1e-3)
        epoch_tokens = int((corpus.train.target_lengths + 1).sum(dtype=int))
        minutes = epoch_tokens / speed / 60
        console.print(
            f"{len(batches):,} batches and {epoch_tokens:,} target tokens an epoch; about "
            f"{speed:,.0f} tokens/s on this machine: {minutes:.1f} min an epoch, at most "
            f"{minutes * (config.optimization.max_epochs or 1):.0f} min for "
            f"{config.optimization.max_epochs} epochs (validation aside; it often stops earlier)\n"
            f"memory: {_peak_mib(network):,.0f} MiB at the peak of {len(trial)} trial updates",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def build_network(config: TrainingConfig, tokenizers: TokenizerPair) -> Seq2Seq:
    """A network with weights drawn from the run's seed, on the run's device."""
    torch.manual_seed(config.seed)
    architecture = ModelConfig(
        **config.model.model_dump(),
        source_vocab_size=tokenizers.source.size,
        target_vocab_size=tokenizers.target.size,
    )
    rates = DropoutRates(**config.dropout.model_dump())
    return Seq2Seq(architecture, rates).to(resolve_device(config.device))


def describe(network: Seq2Seq) -> str:
    """The network in one line."""
    config = network.config
    way = "bidirectional" if config.bidirectional else "one-way"
    return (
        f"{count_parameters(network):,} parameters: {config.encoder_layers}-layer {way} "
        f"{config.cell} encoder of {config.encoder_hidden}, {config.decoder_layers}-layer "
        f"{config.decoder} decoder of {config.decoder_hidden}, {config.attention} attention, "
        f"{config.source_vocab_size:,} source and {config.target_vocab_size:,} target pieces"
    )


def checkpoint_config(
    config: TrainingConfig, network: Seq2Seq, tokenizers: TokenizerPair, store: TokenStore
) -> CheckpointConfig:
    """config.json of what this run exports."""
    return CheckpointConfig(
        source_language=config.data.source_language,
        target_language=config.data.target_language,
        model=network.config,
        tokenizer=TokenizerDescription(
            kind=tokenizers.source.kind,
            joint=tokenizers.joint,
            source_normalization=tokenizers.source.normalization,
            target_normalization=tokenizers.target.normalization,
        ),
        search=config.search,
        max_source_tokens=_max_source_tokens(store),
    )


def _max_source_tokens(store: TokenStore) -> int:
    """The longest source that is translated whole: half as long again as nearly all of training.

    Of much longer sentences the network has seen none; they do better in parts. Two sentences of
    one line mostly pass this limit as well, and are then parted where they end.
    """
    step = max(1, len(store) // 1_000_000)
    longest = float(np.quantile(store.source_lengths[::step], 0.999))
    return max(int(1.5 * longest), 20)


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


def _prepare(
    config: TrainingConfig, folder: Path, console: Console, parent: Parent | None, *, again: bool
) -> PreparedCorpus:
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
    stop: threading.Event,
    console: Console,
) -> None:
    network = build_network(config, corpus.tokenizers)
    if parent is not None:
        try:
            load_weights(network, parent.weights)
        except ValueError as error:
            raise ConfigError(
                f"{parent.name} has another architecture than the run asks for: {error}; leave "
                f"the settings of model as they are"
            ) from None
    trainer = Trainer(network, config, folder.states)
    if folder.has_state:
        trainer.resume()
    _reopen_if_given_more(trainer, config)
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
        journal.say(
            f"training on {trainer.device} in {config.optimization.precision}, "
            f"{config.threads} threads, at most {total_steps:,} updates"
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
        if not trainer.place.finished:
            raise Interrupted
        journal.say(
            f"finished after {trainer.place.step:,} updates and {trainer.place.seconds / 60:.1f} "
            f"min: {trainer.place.finished}"
        )


def _reopen_if_given_more(trainer: Trainer, config: TrainingConfig) -> None:
    """A finished run that is resumed with wider limits goes on."""
    place, limits = trainer.place, config.optimization
    epochs_left = limits.max_epochs is None or place.epoch < limits.max_epochs
    steps_left = limits.max_steps is None or place.step < limits.max_steps
    if epochs_left and steps_left and place.since_best < config.validation.patience:
        place.finished = ""


def _first_epoch(config: TrainingConfig, store: TokenStore) -> list[NDArray[np.int64]]:
    batch_tokens = config.optimization.batch_tokens
    assert batch_tokens is not None  # filled in by defaults.py
    return epoch_batches(store, batch_tokens=batch_tokens, seed=config.seed, epoch=0)


def _total_steps(config: TrainingConfig, store: TokenStore) -> int:
    per_epoch = -(-len(_first_epoch(config, store)) // config.optimization.accumulate)
    steps = per_epoch * (config.optimization.max_epochs or 1)
    return min(steps, config.optimization.max_steps or steps)


def _peak_mib(network: Seq2Seq) -> float:
    device = next(network.parameters()).device
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
