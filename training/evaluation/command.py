"""`dragoman evaluate`: translates a test set with one or two checkpoints and scores the results."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from model.decoding.engine_process import start_engine_processes
from model.errors import ConfigError
from model.system.atomic_files import write_json, write_text
from model.system.process import num_cores
from model.system.progress import line_progress
from model.translator import Translator
from training.config import CorpusConfig
from training.data.readers import read_pairs
from training.evaluation.metrics import compare, corpus_scores, translate_all


@dataclass(frozen=True)
class Evaluation:
    """Inputs, outputs and settings of an evaluation; None: the checkpoint's own search setting."""

    source: Path
    reference: Path
    hypotheses: Path | None = None  # file for the translations
    report: Path | None = None  # JSON file for the scores
    beam_size: int | None = None
    length_penalty: float | None = None
    device: str = "cpu"
    precision: str = "fp32"
    shortlist: bool = False
    threads: int | None = None


def evaluate_checkpoints(
    checkpoints: Sequence[Path], evaluation: Evaluation
) -> tuple[dict[str, Any], list[str]]:
    """Returns the scores as JSON and as text lines; compares a second checkpoint to the first."""
    _check_outputs(evaluation, len(checkpoints))
    corpus = CorpusConfig(source=evaluation.source, target=evaluation.reference)
    pairs = list(read_pairs(corpus, source_language="", target_language=""))
    sources = [pair.source for pair in pairs]
    references = [pair.target for pair in pairs]
    with ExitStack() as open_translators:
        translators = [
            open_translators.enter_context(_load(checkpoint, evaluation))
            for checkpoint in checkpoints
        ]
        return _evaluate(translators, sources, references, evaluation)


def _evaluate(
    translators: Sequence[Translator],
    sources: Sequence[str],
    references: Sequence[str],
    evaluation: Evaluation,
) -> tuple[dict[str, Any], list[str]]:
    language = _common_language(translators)
    report: dict[str, Any] = {"systems": []}
    lines: list[str] = []
    outputs: list[list[str]] = []
    for number, translator in enumerate(translators, start=1):
        name, version = translator.checkpoint.name, translator.checkpoint.version
        with line_progress(f"translating with {name}", len(sources)) as progress:
            output = translate_all(translator, sources, progress=progress)
        scores = corpus_scores(output, references, target_language=language)
        search = translator.search
        report["systems"].append(
            {"checkpoint": name, "version": version, "search": asdict(search), **scores.to_json()}
        )
        lines += [
            f"{name} {version}, beam size {search.beam_size}, "
            f"length penalty {search.length_penalty:g}",
            *(f"  {line}" for line in scores.lines()),
        ]
        if evaluation.hypotheses is not None:
            path = _numbered(evaluation.hypotheses, number)
            write_text(path, "".join(f"{text}\n" for text in output))
        outputs.append(output)
    if len(outputs) == 2:
        first, second = outputs
        comparison = compare(first, second, references, target_language=language)
        report["comparison"] = comparison.to_json()
        lines += ["", *comparison.lines()]
    if evaluation.report is not None:
        write_json(evaluation.report, report)
    return report, lines


def _check_outputs(evaluation: Evaluation, num_checkpoints: int) -> None:
    """Raises ConfigError for outputs that overwrite an input or cannot be written."""
    paths = [] if evaluation.report is None else [evaluation.report]
    if evaluation.hypotheses is not None:
        paths += [_numbered(evaluation.hypotheses, n + 1) for n in range(num_checkpoints)]
    if len({path.absolute() for path in paths}) < len(paths):
        raise ConfigError(
            "the scores and the translations need different files; change --output or --hypotheses"
        )
    for path in paths:
        if not path.parent.is_dir():
            raise ConfigError(f"folder {path.parent} does not exist; create it first")
        for read in (evaluation.source, evaluation.reference):
            if path.exists() and read.exists() and path.samefile(read):
                raise ConfigError(f"{path} is an input of this evaluation; choose another output")


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.name}.{number}")


def _load(checkpoint: Path, evaluation: Evaluation) -> Translator:
    """The checkpoint's translator with the evaluation's search settings."""
    num_engines = evaluation.threads or num_cores()
    processes = None
    if num_engines > 1:
        processes = start_engine_processes(num_engines, evaluation.device)
    torch.set_num_threads(1)  # an engine computes with one
    translator = Translator.load(
        checkpoint,
        device=evaluation.device,
        precision=evaluation.precision,
        shortlist=evaluation.shortlist,
        processes=processes,
    )
    if evaluation.beam_size is not None:
        translator.search = replace(translator.search, beam_size=evaluation.beam_size)
    if evaluation.length_penalty is not None:
        translator.search = replace(translator.search, length_penalty=evaluation.length_penalty)
    return translator


def _common_language(translators: Sequence[Translator]) -> str:
    languages = {translator.checkpoint.config.target_language for translator in translators}
    if len(languages) > 1:
        raise ConfigError(
            f"the checkpoints translate into different languages ({', '.join(sorted(languages))}); "
            f"evaluate each of them with its own reference"
        )
    return languages.pop()
