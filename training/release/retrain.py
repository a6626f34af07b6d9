"""`dragoman retrain`: trains a checkpoint further on new pairs and compares old and new.

Network, tokenizer and settings are those of the checkpoint, with a lower learning rate and fewer
epochs. Old and new checkpoint are compared on pairs held out of the new text.
"""

from pathlib import Path
from typing import Any

from rich.console import Console

from model.checkpoint import file_hash, load_checkpoint
from model.errors import CheckpointError, ConfigError
from model.system.atomic_files import write_json
from model.translator import Translator
from training.config import TokenizerConfig, TrainingConfig
from training.data.prepared_corpus import open_corpus
from training.evaluation.metrics import Comparison, compare, translate_all
from training.loop.distributed import this_worker
from training.loop.memory import bound_memory
from training.recipe_file import load_config
from training.release.export import export
from training.run.folder import RunFolder
from training.run.pipeline import Parent, train

CANDIDATE = "checkpoint"  # inside the run
LEARNING_RATE_FACTOR = 0.3  # of the checkpoint's own; a higher rate forgets more of the old text
MAX_EPOCHS, PATIENCE, WARMUP_STEPS = 10, 3, 100


def retrain(
    checkpoint: Path,
    source: Path,
    target: Path,
    run: Path,
    *,
    overrides: list[str],
    resume: bool = False,
    console: Console | None = None,
) -> Comparison | None:
    """Trains in `run`, exports to RUN/checkpoint and compares it with `checkpoint`.

    Returns None if no test pairs were held out, and in workers other than the writer. Raises the
    errors of `train`.
    """
    bound_memory()  # before the checkpoint's first product
    console = console or Console(stderr=True)
    loaded = load_checkpoint(checkpoint)
    config = _config(checkpoint, loaded.metrics, source, target, overrides)
    weights = {name: p.detach() for name, p in loaded.network.named_parameters()}
    parent = Parent(loaded.name, loaded.version, loaded.tokenizers, weights)
    train(config, run, resume=resume, console=console, parent=parent)
    if not this_worker().is_writer:
        return None
    export(run, run / CANDIDATE, parent_shortlist=loaded.shortlist, console=console)

    folder = RunFolder(run)
    corpus = open_corpus(folder.data, config.data, tokenizer=None, report=lambda message: None)
    if not corpus.test_pairs:
        return None
    sources = [pair.source for pair in corpus.test_pairs]
    old, new = (
        translate_all(Translator.load(path, precision="fp32", shortlist=False), sources)
        for path in (checkpoint, run / CANDIDATE)
    )
    comparison = compare(
        old,
        new,
        [pair.target for pair in corpus.test_pairs],
        target_language=loaded.config.target_language,
    )
    write_json(
        run / "comparison.json",
        {
            "old": {"name": loaded.name, "version": loaded.version},
            "new": {"sums": file_hash(run / CANDIDATE / "SHA256SUMS")},
            "test_pairs": len(sources),
            **comparison.to_json(),
        },
    )
    verdict = "not better" if comparison.bleu.difference <= 0 else "better"
    for line in (
        f"first: {checkpoint}, second: {run / CANDIDATE}, on {len(sources):,} new held-out pairs",
        *comparison.lines(),
        f"by BLEU the retrained checkpoint {run / CANDIDATE} is {verdict}. "
        f"Compare both on your old test set too: dragoman evaluate {checkpoint} {run / CANDIDATE} "
        f"--source OLD --reference OLD",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return comparison


def _config(
    checkpoint: Path, metrics: dict[str, Any], source: Path, target: Path, overrides: list[str]
) -> TrainingConfig:
    try:
        tables: dict[str, Any] = {**metrics["config"]}
        rate = tables["optimization"]["learning_rate"] * LEARNING_RATE_FACTOR
        data = tables["data"]
    except (KeyError, TypeError):
        raise CheckpointError(
            f"{checkpoint}/metrics.json holds no training config, so the checkpoint cannot be "
            f"retrained; train a new one"
        ) from None
    tables["data"] = {
        **data,
        "train": [{"source": str(source), "target": str(target)}],
        "description": f"{data['description']} Then retrained on {source.name}.".strip(),
    }
    tables["optimization"] = {
        **tables["optimization"],
        "learning_rate": rate,
        "warmup_steps": WARMUP_STEPS,
        "max_epochs": MAX_EPOCHS,
        "max_steps": None,
        "precision": "auto",
    }
    # Validate once per epoch: the parent's interval was for a corpus of another size.
    tables["validation"] = {**tables["validation"], "patience": PATIENCE, "every_steps": None}
    tables["threads"] = None  # like precision, chosen again: this may be another machine
    tokenizer = TokenizerConfig.model_validate(tables.get("tokenizer", {}))
    config = load_config(None, data=Path.cwd(), inline=tables, overrides=overrides)
    if config.tokenizer != tokenizer:
        raise ConfigError(
            f"retraining keeps the tokenizer of {checkpoint}; leave out the settings of tokenizer"
        )
    return config
