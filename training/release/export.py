"""`dragoman export`: writes a run state as a checkpoint, with scores, shortlist and model card."""

import json
import platform
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from model.checkpoint import Checkpoint, check_replaceable, load_weights, save_checkpoint
from model.decoding.search_config import SearchConfig
from model.inference.shortlist import Shortlist
from model.system.atomic_files import write_json
from model.translator import Translator
from training.config import ResolvedConfig
from training.data.prepared_corpus import PreparedCorpus, open_corpus
from training.data.readers import Pair
from training.errors import RunError
from training.evaluation.metrics import corpus_scores, translate_with_confidence
from training.loop.build_network import build_network, checkpoint_config
from training.loop.journal import read_log
from training.loop.state import LAST, load_progress, load_weights_file
from training.release.calibration import calibration
from training.release.learn_shortlist import learn_shortlist
from training.release.model_card import write_card
from training.run.folder import RunFolder

StateName = Literal["best", "average", "last"]

MAX_SHORTLIST_COST = 0.5  # BLEU on dev; chance alone moves it by some tenths


def export(
    run: Path,
    checkpoint: Path,
    *,
    which: StateName = "best",
    with_shortlist: bool = True,
    parent_shortlist: Shortlist | None = None,
    console: Console | None = None,
) -> None:
    """Scores a run state on dev and test and writes it as a checkpoint, whole or not at all.

    `which`: `best` is the state with the highest dev score, `average` the mean of the kept best
    states, `last` the last run state. The shortlist is learnt from the run's pairs and, for a
    retrained model, merged with its parent's; it is left out if it lowers BLEU on dev too much.
    Scores are saved in the run, so a second export of the same weights does not compute them again.
    """
    console = console or Console(stderr=True)
    check_replaceable(checkpoint)  # before the scoring, which may take minutes
    folder = RunFolder(run)
    asked, config = folder.asked_config(), folder.resolved_config()
    corpus = open_corpus(
        folder.data,
        asked.data,
        tokenizer=None if folder.parent() else asked.tokenizer,
        report=lambda message: None,  # changes of the input files do not matter any more
    )
    torch.set_num_threads(config.threads or 1)
    progress = load_progress(folder.states / LAST)
    files = [best.file for best in progress.best]
    if which == "best":
        files = files[:1]
    elif which == "last":
        files = [LAST]
    if not files:
        raise RunError(f"run {run} has no validated state yet; train longer, or use --which last")
    weights = mean_weights([load_weights_file(folder.states / file) for file in files])
    exported = _checkpoint(run.resolve().name, config, corpus, weights)
    # `last` is overwritten in training, so its key needs the step to identify the weights.
    key = "+".join(files) if which != "last" else f"{LAST} of step {progress.step}"
    scores = _scores(folder, key, exported, corpus, console)
    shortlist, about_shortlist = None, None
    measured = scores.pop("calibration")
    if with_shortlist and (folder.parent() is None or parent_shortlist is not None):
        learnt = _shortlist(exported, corpus, scores, parent_shortlist, config.seed, console)
        about_shortlist = learnt.about
        if learnt.kept:  # with fewer pieces to choose from, each is more likely
            shortlist, measured = learnt.shortlist, learnt.calibration
    best = {"file": files[0], "step": progress.step}
    if which != "last":
        best = {"step": progress.best[0].step, "dev_score": progress.best[0].score}
    metrics: dict[str, Any] = {
        **scores,
        **({} if measured is None else {"calibration": measured}),
        "training": {
            "state": which,
            **best,
            "updates": progress.step,
            "target_tokens": progress.target_tokens,
            "minutes": round(progress.seconds / 60, 1),
            "peak_memory_mib": _peak_memory_mib(run),
            "finished": progress.finished or "not finished",
            "hardware": hardware(),
            "torch": torch.__version__,
        },
        "corpus": corpus.report.to_json(),
        "config": config.model_dump(mode="json", exclude={"data": {"train", "dev", "test"}}),
        "shortlist": about_shortlist,
        "parent": folder.parent(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "examples": _examples(corpus),
    }
    write_exported(checkpoint, replace(exported, shortlist=shortlist), weights, metrics)


def write_exported(
    folder: Path, exported: Checkpoint, weights: dict[str, torch.Tensor], metrics: dict[str, Any]
) -> None:
    """Saves a checkpoint with a model card made from its metrics."""
    save_checkpoint(
        folder,
        config=exported.config,
        weights=weights,
        tokenizers=exported.tokenizers,
        metrics=metrics,
        card=write_card(folder.resolve().name, exported.config, metrics),
        shortlist=exported.shortlist,
    )


def _peak_memory_mib(run: Path) -> float | None:
    """The most memory that any process of the run recorded; None when none did."""
    return max(
        (line["peak_memory_mib"] for line in read_log(run) if "peak_memory_mib" in line),
        default=None,
    )


def mean_weights(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Returns the average of several states' weights."""
    return {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in states[0]}


@dataclass(frozen=True)
class SplitScores:
    """Scores of a checkpoint's translations of a split; both as in metrics.json."""

    scores: dict[str, Any]  # BLEU, chrF and TER with signatures
    calibration: dict[str, Any] | None  # None for a split that is too small


def score_pairs(checkpoint: Checkpoint, pairs: list[Pair]) -> SplitScores:
    """Scores a checkpoint on pairs, with its own search settings."""
    search = SearchConfig(**checkpoint.config.search.model_dump())
    sources, references = [pair.source for pair in pairs], [pair.target for pair in pairs]
    hypotheses, confidences = translate_with_confidence(Translator(checkpoint), sources, search)
    language = checkpoint.config.target_language
    scores = corpus_scores(hypotheses, references, target_language=language).to_json()
    return SplitScores(
        {**scores, "search": checkpoint.config.search.model_dump()},
        calibration(confidences, hypotheses, references),
    )


def hardware() -> str:
    """Describes the GPU, or the processor and its threads, for the model card."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n"):
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {torch.get_num_threads()} threads"


def _checkpoint(
    name: str, config: ResolvedConfig, corpus: PreparedCorpus, weights: dict[str, torch.Tensor]
) -> Checkpoint:
    network = build_network(config, corpus.tokenizers)
    load_weights(network, weights)
    return Checkpoint(
        name=name,
        version="export",
        config=checkpoint_config(config, network, corpus.tokenizers, corpus.train),
        network=network.eval().requires_grad_(False),
        tokenizers=corpus.tokenizers,
        metrics={},
        precision="fp32",
    )


def _scores(
    folder: RunFolder, key: str, checkpoint: Checkpoint, corpus: PreparedCorpus, console: Console
) -> dict[str, Any]:
    known: dict[str, Any] = {}
    if folder.scores.is_file():
        known = json.loads(folder.scores.read_bytes())
    # Scores that an earlier release kept have no calibration.
    if "calibration" not in known.get(key, {}):
        console.print("scoring on the dev and test splits", markup=False, highlight=False)
        splits = {"dev": corpus.dev_pairs, "test": corpus.test_pairs or []}
        judged = {name: score_pairs(checkpoint, pairs) for name, pairs in splits.items() if pairs}
        known[key] = {
            **{name: split.scores for name, split in judged.items()},
            "calibration": judged["dev"].calibration if "dev" in judged else None,
        }
        write_json(folder.scores, known)
    scores: dict[str, Any] = known[key]
    return scores


@dataclass(frozen=True)
class _LearntShortlist:
    """A shortlist, and the checkpoint's results on dev with it."""

    shortlist: Shortlist
    kept: bool  # False: it lowers BLEU on dev too much
    about: dict[str, Any]  # for metrics.json
    calibration: dict[str, Any] | None


def _shortlist(
    checkpoint: Checkpoint,
    corpus: PreparedCorpus,
    scores: dict[str, Any],
    parent: Shortlist | None,
    seed: int,
    console: Console,
) -> _LearntShortlist:
    """Learns a shortlist and measures it on dev."""
    console.print("learning a shortlist of likely words", markup=False, highlight=False)
    model = checkpoint.config.model
    shortlist = learn_shortlist(
        corpus.train,
        source_vocab_size=model.source_vocab_size,
        target_vocab_size=model.target_vocab_size,
        joint=checkpoint.config.tokenizer.joint,
        seed=seed,
    )
    if parent is not None:
        shortlist = shortlist.merged(parent)
    with_it = score_pairs(replace(checkpoint, shortlist=shortlist), corpus.dev_pairs)
    before, after = scores["dev"]["bleu"]["score"], with_it.scores["bleu"]["score"]
    kept = after > before - MAX_SHORTLIST_COST
    if not kept:
        console.print(
            f"no shortlist: it would lower BLEU on dev from {before:.2f} to {after:.2f}",
            markup=False,
            highlight=False,
        )
    about = {"kept": kept, "dev_bleu_without": before, "dev_bleu_with": after}
    return _LearntShortlist(shortlist, kept, about, with_it.calibration)


def _examples(corpus: PreparedCorpus) -> list[str]:
    """Returns a few dev sources, which tests of speed and readiness translate."""
    return [pair.source for pair in corpus.dev_pairs[:20]]
