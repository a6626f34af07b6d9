"""Translator: texts in, Translations out. Owns the tokenizers and the engines; knows no HTTP.

A text is split into segments. An engine translates each segment in a batch with the segments of
other texts, and the translated segments are joined again. Blank texts, and segments without tokens,
stay unchanged.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from model.batch_translate import translate_in_order
from model.checkpoint import Checkpoint, load_checkpoint, read_description
from model.decoding.engine import Engine
from model.decoding.engine_pool import EnginePool
from model.decoding.engine_process import EngineProcesses, EngineSetup
from model.decoding.forced_scoring import score_targets
from model.decoding.request import EngineUsage, SegmentRequest
from model.decoding.search_config import SearchConfig, length_penalty
from model.errors import CheckpointError, InputError
from model.inference.packed_network import PackedNetwork
from model.inference.precision import resolve_device, resolve_precision
from model.text.segmenter import Segmentation, split
from model.text.tokenizer import check_text
from model.translation import ForcedScore, PendingText, Translation, translation_of


class Translator:
    """Translates and scores texts with one checkpoint.

    Not thread-safe: one thread owns it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        max_slots: int = 64,
        processes: EngineProcesses | None = None,
    ) -> None:
        """Translates with one engine in the calling thread, or with `processes`, an engine each.

        Processes use several cores of a CPU, and leave this process' interpreter to other threads.
        The calling thread serves a GPU, a checkpoint that is only in memory, and small work: it
        starts sooner, and takes about 200 MB less than a process does. max_slots: sentences that
        each engine translates at the same time. `processes` must have been sent the checkpoint.
        """
        assert processes is None or checkpoint.device.type == "cpu"
        self.checkpoint = checkpoint
        self.search = SearchConfig(**checkpoint.config.search.model_dump())  # when none is given
        self._max_source_tokens = checkpoint.config.max_source_tokens
        self._max_slots = max_slots
        self._pool: EnginePool | None = None
        if processes is not None:
            self._pool = EnginePool(
                processes, max_slots=max_slots, max_source_tokens=self._max_source_tokens
            )
        self.num_characters_done = 0  # of all segments translated so far
        self._num_tickets = 0
        self._num_requests = 0
        self._texts: dict[int, PendingText] = {}  # by ticket
        self._texts_by_request: dict[int, PendingText] = {}
        self._complete: list[PendingText] = []  # all segments translated, not yet returned

    @functools.cached_property
    def _own_engine(self) -> Engine:
        """The engine of the calling thread, made when it is first needed: scoring needs none."""
        return Engine(
            self._network,
            shortlist=self.checkpoint.shortlist,
            max_slots=self._max_slots,
            max_source_tokens=self._max_source_tokens,
        )

    @functools.cached_property
    def _network(self) -> PackedNetwork:
        return PackedNetwork(self.checkpoint.network, self.checkpoint.precision)

    @functools.cached_property
    def _scoring_network(self) -> PackedNetwork:
        """The network for scoring: in fp32, whatever the precision of translations."""
        if self.checkpoint.precision == "fp32":
            return self._network
        return PackedNetwork(self.checkpoint.network, "fp32")

    @property
    def exact(self) -> bool:
        """Whether a text gets the same translation, bit for bit, in any batch on this machine.

        With engine processes: False before `start`, since one of them checks it.
        """
        return self._network.exact if self._pool is None else self._pool.exact

    @property
    def _engines(self) -> Engine | EnginePool:
        return self._own_engine if self._pool is None else self._pool

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        *,
        device: str = "cpu",
        precision: str = "auto",
        shortlist: bool = True,
        max_slots: int = 64,
        processes: EngineProcesses | None = None,
    ) -> "Translator":
        """Loads a checkpoint folder; CheckpointError or ConfigError when that is impossible.

        shortlist: narrow the output layer if the checkpoint has a shortlist. `processes` load the
        checkpoint at the same time; see __init__. They are closed when loading fails.
        """
        try:
            return cls(
                _load(checkpoint, device, precision, shortlist, max_slots, processes),
                max_slots=max_slots,
                processes=processes,
            )
        except BaseException:
            if processes is not None:
                processes.close()
            raise

    def __enter__(self) -> "Translator":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def translate(
        self,
        texts: Sequence[str],
        search: SearchConfig | None = None,
        *,
        alignments: bool = False,
        segmentation: Segmentation = "line",
    ) -> list[Translation]:
        """Returns one Translation per text, in order; InputError names the text, counted from 1.

        Only while the translator is idle: results of `add` would be lost here.
        """
        assert self.idle
        return translate_in_order(
            self, texts, search, alignments=alignments, segmentation=segmentation
        )

    def add(
        self,
        text: str,
        search: SearchConfig | None = None,
        *,
        alignments: bool = False,
        segmentation: Segmentation = "line",
        bulk: bool = False,
    ) -> int:
        """Queues a text and returns its ticket, which `step` returns with the translation.

        InputError when the text cannot be translated. bulk: part of a large job, so other texts go
        first, and one of several engines takes none of it.
        """
        check_text(text)
        token_ids: dict[str, list[int]] = {}

        def fits(candidate: str) -> bool:
            candidate_ids = self.checkpoint.tokenizers.source.encode(candidate)
            if len(candidate_ids) > self._max_source_tokens:
                return False
            token_ids[candidate] = candidate_ids
            return True

        config = self.checkpoint.config
        source_text = split(
            text, language=config.source_language, fits=fits, segmentation=segmentation
        )
        sources = [segment.text for segment in source_text.segments]
        if not all(source in token_ids or fits(source) for source in sources):
            raise InputError(
                f"a single character has more than {self._max_source_tokens} tokens, the limit; "
                f"raise max_source_tokens"
            )
        self._num_tickets += 1
        pending = PendingText(
            ticket=self._num_tickets,
            source=source_text,
            source_ids=[token_ids[source] for source in sources],
            search=search or self.search,
        )
        for index, source_ids in enumerate(pending.source_ids):
            if source_ids:
                self._num_requests += 1
                pending.waiting_for[self._num_requests] = index
                self._texts_by_request[self._num_requests] = pending
                self._engines.submit(
                    SegmentRequest(
                        self._num_requests,
                        source_ids,
                        pending.search,
                        attention=alignments,
                        bulk=bulk,
                    )
                )
        self._texts[pending.ticket] = pending
        if not pending.waiting_for:
            self._complete.append(pending)
        return pending.ticket

    def step(self, timeout_s: float | None = None) -> list[tuple[int, Translation]]:
        """Advances all texts; returns finished translations with their tickets.

        The engine of the calling thread advances every sentence by one piece. With processes, this
        waits for finished segments, until `wake` or the timeout ends the wait.
        """
        if self._pool is None:
            results = self._own_engine.step()
        else:
            results = self._pool.step(0.0 if self._complete else timeout_s)
        complete, self._complete = self._complete, []  # after `step`, which may raise
        for finished in results:
            pending = self._texts_by_request.pop(finished.request_id)
            index = pending.waiting_for.pop(finished.request_id)
            pending.hypotheses[index] = finished.hypotheses
            self.num_characters_done += len(pending.source.segments[index].text)
            if not pending.waiting_for:
                complete.append(pending)
        for pending in complete:
            del self._texts[pending.ticket]
        config, tokenizers = self.checkpoint.config, self.checkpoint.tokenizers
        return [
            (pending.ticket, translation_of(pending, tokenizers, config.target_language))
            for pending in complete
        ]

    def cancel(self, ticket: int) -> None:
        """Drops a text; unknown and finished tickets are ignored."""
        pending = self._texts.pop(ticket, None)
        if pending is None:
            return
        self._complete = [other for other in self._complete if other is not pending]
        for request_id in pending.waiting_for:
            self._engines.cancel(request_id)
            del self._texts_by_request[request_id]

    def start(self) -> None:
        """Waits until all engines are ready; EngineFailure when one fails. Only while idle."""
        if self._pool is None:
            _ = self._own_engine
        else:
            self._pool.start()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Process ids of the ready engine processes."""
        return () if self._pool is None else self._pool.process_ids

    def wake(self) -> None:
        """Makes a waiting `step` return at once; may be called from any thread."""
        if self._pool is not None:
            self._pool.wake()

    def close(self) -> None:
        """Ends the engine processes; unfinished texts are lost."""
        if self._pool is not None:
            self._pool.close()

    @property
    def idle(self) -> bool:
        """True when every text has been returned or cancelled."""
        return not self._texts

    @property
    def usage(self) -> EngineUsage:
        """How busy the engines are; for any thread, once `start` has returned."""
        return self._engines.usage

    @property
    def num_waiting(self) -> int:
        """Number of segments that wait for an engine; a pool does not count bulk ones."""
        return self._engines.num_waiting

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[ForcedScore]:
        """Returns how probable each target is for its source; a pair is never split.

        InputError names the pair, counted from 1.
        """
        tokenizers = self.checkpoint.tokenizers
        limits = {
            "source": self._max_source_tokens,
            "target": SearchConfig().max_length(self._max_source_tokens),
        }
        ids: list[tuple[list[int], list[int]]] = []
        for number, (source, target) in enumerate(pairs, start=1):
            try:
                check_text(source)
                check_text(target)
            except InputError as error:
                raise InputError(f"pair {number}: {error}") from None
            pair = (tokenizers.source.encode(source), tokenizers.target.encode(target))
            for (side, limit), token_ids in zip(limits.items(), pair, strict=True):
                if len(token_ids) > limit:
                    raise InputError(
                        f"pair {number}: {side} has {len(token_ids)} tokens, the limit is {limit}; "
                        f"score shorter pieces"
                    )
            ids.append(pair)
        token_log_probs_of_pairs = score_targets(self._scoring_network, ids)
        return [
            ForcedScore(
                log_prob=sum(token_log_probs),
                score=sum(token_log_probs)
                / length_penalty(len(token_log_probs), self.search.length_penalty),
                token_log_probs=token_log_probs,
                pieces=tuple(tokenizers.target.pieces(target_ids)),
            )
            for (_, target_ids), token_log_probs in zip(ids, token_log_probs_of_pairs, strict=True)
        ]


def _load(
    folder: Path,
    device: str,
    precision: str,
    shortlist: bool,
    max_slots: int,
    processes: EngineProcesses | None,
) -> Checkpoint:
    """Loads the checkpoint here, and in `processes` at the same time."""
    version = None
    if processes is not None:
        version = read_description(folder).version
        resolved = resolve_precision(precision, resolve_device(device))
        processes.load(EngineSetup(folder, version, resolved, shortlist, max_slots))
    loaded = load_checkpoint(folder, device=device, precision=precision)
    if version is not None and loaded.version != version:
        raise CheckpointError(f"{folder} was replaced while it was loaded; load it again")
    return loaded if shortlist else replace(loaded, shortlist=None)
