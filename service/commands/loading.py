"""Opens a checkpoint for one command, and applies the command's search options."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.decoding.engine_process import EngineProcesses
from model.system.process import num_cores

if TYPE_CHECKING:
    from model.decoding.beam_search import SearchConfig
    from model.translator import Translator


@dataclass(frozen=True)
class Loading:
    """A checkpoint and how to run it."""

    checkpoint: Path
    device: str = "cpu"
    precision: str = "auto"
    shortlist: bool = True  # if the checkpoint has one
    threads: int | None = None  # cores to use, with an engine each; None: all
    slots: int = 64  # sentences that each engine translates at the same time


def load_translator(loading: Loading, *, much: bool = False) -> "Translator":
    """Loads the translator; imports torch.

    `much`: there is work for every core, so all engine processes start at once.
    """
    threads = loading.threads or num_cores()
    processes = None
    if much and threads > 1 and loading.device == "cpu":
        processes = EngineProcesses()  # they import torch while this process imports it
    import torch

    from model.translator import Translator

    torch.set_num_threads(threads)
    try:
        return Translator.load(
            loading.checkpoint,
            device=loading.device,
            precision=loading.precision,
            shortlist=loading.shortlist,
            max_slots=loading.slots,
            num_engines=threads,
            processes=processes,
        )
    except BaseException:
        if processes is not None:
            processes.close()
        raise


def search_settings(
    translator: "Translator", chosen: Mapping[str, int | float | None]
) -> "SearchConfig":
    """The checkpoint's search settings, replaced by those of `chosen` that are not None."""
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    return replace(translator.search, **given)
