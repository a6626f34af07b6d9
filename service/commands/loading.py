"""Opens a checkpoint for one command, and applies the command's search options."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.decoding.engine_process import start_engine_processes
from model.decoding.search_config import SearchConfig
from model.system.process import num_cores

if TYPE_CHECKING:
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

    @property
    def num_cores(self) -> int:
        """Number of cores to use."""
        return self.threads or num_cores()


def load_translator(loading: Loading, *, many_texts: bool = False) -> "Translator":
    """Returns the translator, ready to use; imports torch, which takes a second.

    many_texts: there are enough to give every core an engine process. These start first and import
    torch at the same time as this process. For few texts one engine in this process is done sooner.
    """
    processes = None
    if many_texts and loading.num_cores > 1:
        processes = start_engine_processes(loading.num_cores, loading.device)
    import torch

    from model.translator import Translator

    torch.set_num_threads(1)  # an engine computes with one
    return Translator.load(
        loading.checkpoint,
        device=loading.device,
        precision=loading.precision,
        shortlist=loading.shortlist,
        max_slots=loading.slots,
        processes=processes,
    )


def search_settings(
    translator: "Translator", chosen: Mapping[str, int | float | None]
) -> "SearchConfig":
    """The checkpoint's search settings, replaced by those of `chosen` that are not None."""
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    return replace(translator.search, **given)
