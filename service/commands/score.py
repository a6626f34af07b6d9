"""`dragoman score`: log-probabilities of given translations, line by line."""

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import InputError
from model.system.progress import line_progress
from model.text.text_file import read_lines
from model.translation import ForcedScore
from service.commands.loading import Loading, load_translator
from service.files.lines import survey

if TYPE_CHECKING:
    from model.translator import Translator

_WINDOW = 512  # pairs read before they are scored, sorted by length to share batches
_BATCH = 32


def score_files(loading: Loading, source: Path, target: Path, *, as_json: bool) -> None:
    """Prints log_prob and score of every line of `target`, given the same line of `source`."""
    num_source, num_target = survey(source).num_lines, survey(target).num_lines
    if num_source != num_target:
        raise InputError(
            f"{source} has {num_source:,} lines but {target} has {num_target:,}; line n of one "
            f"must be the translation of line n of the other"
        )
    pairs = zip(read_lines(source), read_lines(target), strict=True)
    num_done = 0
    with (
        load_translator(loading) as translator,
        line_progress("scoring", num_source) as progress,
    ):
        import torch  # has been imported by `load_translator`

        torch.set_num_threads(loading.num_cores)
        while window := list(itertools.islice(pairs, _WINDOW)):
            for number, forced in enumerate(
                _score_window(translator, window, num_done + 1), start=num_done + 1
            ):
                sys.stdout.write(_line(number, forced, as_json=as_json))
            sys.stdout.flush()
            num_done += len(window)
            progress(num_done)


def _score_window(
    translator: "Translator", pairs: Sequence[tuple[str, str]], first_number: int
) -> list[ForcedScore]:
    order = sorted(range(len(pairs)), key=lambda index: len(pairs[index][1]))
    scores: dict[int, ForcedScore] = {}
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        try:
            batch_scores = translator.score([pairs[index] for index in batch])
        except InputError:
            batch_scores = [_score_line(translator, pairs[i], first_number + i) for i in batch]
        scores.update(zip(batch, batch_scores, strict=True))
    return [scores[index] for index in range(len(pairs))]


def _score_line(translator: "Translator", pair: tuple[str, str], number: int) -> ForcedScore:
    """Scores one pair alone, so that an error can name its line."""
    try:
        return translator.score([pair])[0]
    except InputError as error:
        raise InputError(f"line {number}: {error}") from None


def _line(number: int, forced: ForcedScore, *, as_json: bool) -> str:
    if not as_json:
        return f"{forced.log_prob:.6f}\t{forced.score:.6f}\n"
    fields: dict[str, Any] = {
        "line": number,
        "log_prob": forced.log_prob,
        "score": forced.score,
        "pieces": list(forced.pieces),
        "token_log_probs": list(forced.token_log_probs),
    }
    return json.dumps(fields, ensure_ascii=False) + "\n"
