"""Translator: texts in, Translations out. Owns the tokenizers and the engine; knows no HTTP.

A text is split into segments, the segments go through the engine among all others, and come back
joined. Blank texts, and segments in which the tokenizer finds nothing, pass unchanged.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from model.batch_translate import translate_in_order
from model.checkpoint import Checkpoint, load_checkpoint, read_description
from model.decoding.beam_search import SearchConfig, length_penalty
from model.decoding.engine import Engine
from model.decoding.engine_pool import EngineTeam
from model.decoding.engine_process import EngineProcesses, EngineSetup
from model.decoding.forced_scoring import score_targets
from model.decoding.request import Request, Usage
from model.errors import CheckpointError, InputError
from model.inference.packed_network import PackedNetwork
from model.inference.precision import resolve_device, resolve_precision
from model.text.segmenter import Segmentation, split
from model.text.tokenizer import check_text
from model.translation import Job, Translation, translation_of


@dataclass(frozen=True)
class ForcedScore:
    """How probable the network finds a given target."""

    log_prob: float
    score: float  # log_prob after the checkpoint's length penalty
    token_log_probs: tuple[float, ...]  # per piece, then EOS's
    pieces: tuple[str, ...]  # without EOS


class Translator:
    """One checkpoint at work. Not thread-safe: one thread owns it."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        max_slots: int = 64,
        num_engines: int = 1,
        own_engine: bool = True,
        processes: EngineProcesses | None = None,
    ) -> None:
        """`num_engines`: cores to use; `max_slots`: sentences each translates at the same time.

        One engine computes in the thread that calls, or none if there is to be no `own_engine`;
        the others have processes of their own, for which the checkpoint must be in its folder.
        They are started when there is enough for them to do, unless `processes` are given, which
        must have been told what to load.
        """
        self.checkpoint = checkpoint
        self.search = SearchConfig(**checkpoint.config.search.model_dump())  # when none is given
        self._max_source_tokens = checkpoint.config.max_source_tokens
        self._max_slots = max_slots
        self._num_processes = num_engines - own_engine
        self._own_engine = own_engine
        self._processes = processes  # not yet a team's
        self.num_characters_done = 0  # of all segments translated so far
        self._num_tickets = 0
        self._num_requests = 0
        self._jobs: dict[int, Job] = {}  # by ticket
        self._jobs_by_request: dict[int, Job] = {}
        self._complete: list[Job] = []  # nothing to wait for

    @functools.cached_property
    def _engine(self) -> Engine | EngineTeam:
        """Made for the first text: scoring needs none."""
        on_cpu = self.checkpoint.device.type == "cpu"
        # Steps on a GPU would only wait for each other.
        if not on_cpu or (self._own_engine and self._num_processes == 0):
            return self._make_engine()
        if self._own_engine:
            torch.set_num_threads(1)  # in this thread: the other cores are taken
        team = EngineTeam(
            self._make_engine() if self._own_engine else None,
            self._start_processes,
            self._num_processes,
            max_slots=self._max_slots,
            max_source_tokens=self._max_source_tokens,
        )
        if self._processes is not None:
            team.call_processes()
        return team

    @functools.cached_property
    def _network(self) -> PackedNetwork:
        return PackedNetwork(self.checkpoint.network, self.checkpoint.precision)

    @functools.cached_property
    def _scoring_network(self) -> PackedNetwork:
        """In fp32, whatever translations are made in."""
        if self.checkpoint.precision == "fp32":
            return self._network
        return PackedNetwork(self.checkpoint.network, "fp32")

    @property
    def exact(self) -> bool:
        """Whether a text gets the same translation in any batch here, to the last bit.

        Call `start` first where the engines have processes of their own: one of them tries it.
        """
        if isinstance(self._engine, EngineTeam) and not self._own_engine:
            return self._engine.exact
        return self._network.exact

    def _make_engine(self) -> Engine:
        return Engine(
            self._network,
            shortlist=self.checkpoint.shortlist,
            max_slots=self._max_slots,
            max_source_tokens=self._max_source_tokens,
        )

    def _start_processes(self) -> EngineProcesses:
        processes, self._processes = self._processes, None
        if processes is None:
            checkpoint = self.checkpoint
            assert checkpoint.folder is not None
            processes = EngineProcesses()
            processes.set_up(
                EngineSetup(
                    checkpoint.folder,
                    checkpoint.version,
                    checkpoint.precision,
                    checkpoint.shortlist is not None,
                    self._max_slots,
                )
            )
        return processes

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        *,
        device: str = "cpu",
        precision: str = "auto",
        shortlist: bool = True,
        max_slots: int = 64,
        num_engines: int = 1,
        own_engine: bool = True,
        processes: EngineProcesses | None = None,
    ) -> "Translator":
        """Loads a checkpoint folder; CheckpointError or ConfigError when it cannot be used so.

        `shortlist`: narrow the output layer if the checkpoint says how. `processes` are told here
        what to load. The rest: see __init__.
        """
        if processes is not None:  # they load while this process does
            _, _, version = read_description(checkpoint)
            resolved = resolve_precision(precision, resolve_device(device))
            processes.set_up(EngineSetup(checkpoint, version, resolved, shortlist, max_slots))
        loaded = load_checkpoint(checkpoint, device=device, precision=precision)
        if processes is not None and loaded.version != version:
            raise CheckpointError(f"{checkpoint} was exchanged while it was loaded; try again")
        if not shortlist:
            loaded = replace(loaded, shortlist=None)
        return cls(
            loaded,
            max_slots=max_slots,
            num_engines=num_engines,
            own_engine=own_engine,
            processes=processes,
        )

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
        """One Translation per text, in order; InputError names the text by its number from 1.

        Only while nothing else is under way: results of `add` would be lost here.
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
        """Queues a text; the ticket under which `step` will return it. InputError refuses it.

        What belongs to a `bulk` lets other texts pass, and is left to all engines but one.
        """
        check_text(text)
        token_ids: dict[str, list[int]] = {}

        def fits(candidate: str) -> bool:
            found = self.checkpoint.tokenizers.source.encode(candidate)
            if len(found) > self._max_source_tokens:
                return False
            token_ids[candidate] = found
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
        job = Job(
            ticket=self._num_tickets,
            source=source_text,
            source_ids=[token_ids[source] for source in sources],
            search=search or self.search,
        )
        for index, source_ids in enumerate(job.source_ids):
            if source_ids:
                self._num_requests += 1
                job.waiting_for[self._num_requests] = index
                self._jobs_by_request[self._num_requests] = job
                self._engine.admit(
                    Request(
                        self._num_requests,
                        source_ids,
                        job.search,
                        attention=alignments,
                        bulk=bulk,
                    )
                )
        self._jobs[job.ticket] = job
        if not job.waiting_for:
            self._complete.append(job)
        return job.ticket

    def step(self, timeout_s: float | None = None) -> list[tuple[int, Translation]]:
        """Advances everything under way; what has finished, with its ticket.

        The calling thread's engine advances by one piece. Without work for it, or without one, this
        waits until another engine has finished something, or `wake` was called, or the time is
        over.
        """
        results = self._engine.step(0.0 if self._complete else timeout_s)
        complete, self._complete = self._complete, []  # kept, should an engine have failed
        for finished in results:
            job = self._jobs_by_request.pop(finished.request_id)
            index = job.waiting_for.pop(finished.request_id)
            job.hypotheses[index] = finished.hypotheses
            self.num_characters_done += len(job.source.segments[index].text)
            if not job.waiting_for:
                complete.append(job)
        for job in complete:
            del self._jobs[job.ticket]
        config, tokenizers = self.checkpoint.config, self.checkpoint.tokenizers
        return [
            (job.ticket, translation_of(job, tokenizers, config.target_language))
            for job in complete
        ]

    def cancel(self, ticket: int) -> None:
        """Drops a text wherever it is; one that is unknown or finished is no error."""
        job = self._jobs.pop(ticket, None)
        if job is None:
            return
        self._complete = [other for other in self._complete if other is not job]
        for request_id in job.waiting_for:
            self._engine.cancel(request_id)
            del self._jobs_by_request[request_id]

    def start(self) -> None:
        """Has all engines ready, which otherwise come when they are needed; EngineFailure if not.

        Only while nothing is under way.
        """
        self._engine.start()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the engines that have processes of their own, as far as they are ready."""
        return self._engine.process_ids

    def wake(self) -> None:
        """Lets a `step` that waits return at once; may be called from any thread."""
        self._engine.wake()

    def close(self) -> None:
        """Ends the engines' processes; what is under way is lost."""
        if self._processes is not None:
            self._processes.close()
        if "_engine" in self.__dict__:
            self._engine.close()

    @property
    def idle(self) -> bool:
        """Nothing under way and nothing to hand out."""
        return not self._jobs

    @property
    def usage(self) -> Usage:
        """How busy the engines are; may be asked from any thread once it has started."""
        return self._engine.usage

    @property
    def num_waiting(self) -> int:
        """Segments that have no slot of the engine yet; a team does not count those in bulk."""
        return self._engine.num_waiting

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[ForcedScore]:
        """How probable each target is for its source; a pair is never split.

        InputError names the pair by its number from 1.
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
        found = score_targets(self._scoring_network, ids)
        return [
            ForcedScore(
                log_prob=sum(token_log_probs),
                score=sum(token_log_probs)
                / length_penalty(len(token_log_probs), self.search.length_penalty),
                token_log_probs=token_log_probs,
                pieces=tuple(tokenizers.target.pieces(target_ids)),
            )
            for (_, target_ids), token_log_probs in zip(ids, found, strict=True)
        ]
