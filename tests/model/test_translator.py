"""Texts in, Translations out: order, blanks, splitting, tickets, forced scores."""

import dataclasses
import itertools
from pathlib import Path
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.checkpoint import load_checkpoint
from model.decoding.search_config import SearchConfig, length_penalty
from model.errors import CheckpointError, InputError
from model.network.batch import SourceBatch
from model.text.segmenter import Segmentation, Span
from model.text.tokenizer import BOS, EOS
from model.translation import SegmentTranslation, Translation
from model.translator import Translator
from tests.slow_step import slow_step

TEXTS = [
    "We have two apples.",
    "pears",
    "We have one apples and nine pears.",
    "three",
    "seven pears.",
]
SHORT = SearchConfig(beam_size=1, max_length_ratio=0.0, max_length_extra=4)
LONG = (
    " ".join(f"We have {number} apples." for number in ("one", "two", "six", "ten")) + " The end."
)


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Path:
    return tiny_checkpoint


@pytest.fixture(scope="module")
def shared(checkpoint: Path) -> Translator:
    return Translator.load(checkpoint, precision="fp32")


@pytest.fixture
def translator(shared: Translator) -> Translator:
    """A translator, which every test leaves idle."""
    assert shared.idle
    return shared


def short_of(checkpoint: Path, max_source_tokens: int) -> Translator:
    """Returns a translator of the checkpoint with a lower limit of source tokens."""
    loaded = load_checkpoint(checkpoint, precision="fp32")
    config = loaded.config.model_copy(update={"max_source_tokens": max_source_tokens})
    return Translator(dataclasses.replace(loaded, config=config))


def test_as_many_translations_in_the_same_order(translator: Translator) -> None:
    found = translator.translate(TEXTS)
    assert [translation.segments[0].source for translation in found] == TEXTS
    assert found == [translator.translate([text])[0] for text in TEXTS]
    assert translator.translate([]) == []
    assert translator.idle


def test_fields_of_a_translation(translator: Translator) -> None:
    search = SearchConfig(beam_size=3, n_best=3, length_penalty=0.6)
    (found,) = translator.translate([TEXTS[0]], search, alignments=True)
    (segment,) = found.segments
    tokenizers = translator.checkpoint.tokenizers
    assert segment.source_pieces == tuple(
        tokenizers.source.pieces(tokenizers.source.encode(TEXTS[0]))
    )
    assert (found.source_tokens, found.target_tokens) == (
        len(segment.source_pieces),
        len(segment.target_pieces),
    )
    assert found.text == segment.text
    assert found.score == segment.score
    assert found.log_prob == pytest.approx(sum(segment.token_log_probs), abs=1e-4)
    length = len(segment.token_log_probs)
    assert length == len(segment.target_pieces) + (not found.truncated)
    assert found.score == found.log_prob / length_penalty(length, 0.6)
    assert segment.alignment is not None
    assert len(segment.alignment) == length
    for row in segment.alignment:
        assert len(row) == len(segment.source_pieces) + 1
        assert sum(row) == pytest.approx(1.0, abs=1e-5)
    assert len(found.alternatives) == 2
    assert translator.translate([TEXTS[0]], search)[0].segments[0].alignment is None


def test_n_best_gives_that_many(translator: Translator) -> None:
    for n_best in (1, 3, 8):
        (found,) = translator.translate([TEXTS[1]], SearchConfig(beam_size=8, n_best=n_best))
        assert len(found.alternatives) == n_best - 1
        assert len({found.log_prob, *(other.log_prob for other in found.alternatives)}) == n_best


def test_the_checkpoints_search_settings_are_the_default(translator: Translator) -> None:
    defaults = translator.checkpoint.config.search
    assert translator.search == SearchConfig(**defaults.model_dump())
    assert translator.translate(TEXTS) == translator.translate(TEXTS, translator.search)


@pytest.mark.parametrize("text", ["", " ", "\t\n", "\u3000", "\r\n \r\n"])
def test_blank_texts_skip_the_network(translator: Translator, text: str) -> None:
    blank = Translation(text, 0.0, 0.0, (), (), 0, 0, False)
    assert translator.translate([text]) == [blank]
    found = translator.translate([TEXTS[0], text, TEXTS[1]])
    assert found[1] == blank
    assert found[::2] == translator.translate(TEXTS[:2])


def test_segments_without_pieces_stay_unchanged(translator: Translator) -> None:
    text = "\u200b"  # not blank, but the tokenizer's normalisation drops it
    assert translator.checkpoint.tokenizers.source.encode(text) == []
    (found,) = translator.translate([f"{text}\nten"])
    assert found.text.startswith(f"{text}\n")
    passed, seen = found.segments
    assert passed == SegmentTranslation(
        text, text, Span(0, 1), Span(0, 1), 0.0, (), (), (), alignment=None
    )
    assert (found.score, found.log_prob) == pytest.approx((seen.score, sum(seen.token_log_probs)))


@settings(max_examples=40, deadline=None)
@given(
    st.text(st.sampled_from([*"ab Ä.!?。\n\r\u2028\u3000\u200b😀é", "\u0301", "ש"]), max_size=40),
    st.sampled_from(get_args(Segmentation)),
)
def test_offsets_rebuild_text_and_translation(
    offsets_translator: Translator, text: str, mode: Segmentation
) -> None:
    (found,) = offsets_translator.translate([text], SHORT, segmentation=mode)
    for whole, pieces in (
        (text, [(s.source_span, s.source) for s in found.segments]),
        (found.text, [(s.target_span, s.text) for s in found.segments]),
    ):
        end = 0
        for span, piece in pieces:
            assert whole[end : span.start].strip() == ""
            assert whole[span.start : span.end] == piece
            end = span.end
        assert whole[end:].strip() == ""
    if mode != "none":
        breaks = [character for character in text if character in "\n\r\u2028"]
        assert [character for character in found.text if character in "\n\r\u2028"] == breaks


@pytest.fixture(scope="module")
def offsets_translator(checkpoint: Path) -> Translator:
    loaded = load_checkpoint(checkpoint, precision="fp32")
    config = loaded.config.model_copy(update={"max_source_tokens": 12})
    return Translator(dataclasses.replace(loaded, config=config))


def test_each_sentence_is_translated_as_if_alone(translator: Translator) -> None:
    sentences = ["Two pears.", "Ten apples.", "six"]
    text = f"{sentences[0]}  {sentences[1]}\n\n{sentences[2]}"
    first, second, third = (found.text for found in translator.translate(sentences))
    (by_sentence,) = translator.translate([text], segmentation="sentence")
    assert by_sentence.text == f"{first}  {second}\n\n{third}"
    (by_line,) = translator.translate([text], segmentation="line")
    assert [segment.source for segment in by_line.segments] == text.split("\n\n")
    (whole,) = translator.translate([text], segmentation="none")
    assert [segment.source for segment in whole.segments] == [text]
    spaced = translator.translate([text.replace("\n", " ")], segmentation="none")[0]
    assert whole.text == spaced.text  # a line break is a space to the network


def test_lines_stay_lines(translator: Translator) -> None:
    (found,) = translator.translate([f"\n{TEXTS[0]}\n\n{TEXTS[1]}\n"])
    first, second = (translation.text for translation in translator.translate(TEXTS[:2]))
    assert found.text == f"\n{first}\n\n{second}\n"
    assert [segment.source for segment in found.segments] == TEXTS[:2]


def test_long_texts_are_split_and_nothing_is_lost(checkpoint: Path) -> None:
    translator = short_of(checkpoint, 12)
    search = SearchConfig(beam_size=4, n_best=3, length_penalty=0.5)
    (found,) = translator.translate([LONG], search, alignments=True)
    assert len(found.segments) > 3
    assert " ".join(segment.source for segment in found.segments) == LONG
    assert found.text == " ".join(segment.text for segment in found.segments)
    assert found.source_tokens == sum(len(segment.source_pieces) for segment in found.segments)
    singles = translator.translate([segment.source for segment in found.segments], search)
    assert [single.segments[0].text for single in singles] == [s.text for s in found.segments]
    assert found.log_prob == pytest.approx(sum(single.log_prob for single in singles))
    length = sum(len(segment.token_log_probs) for segment in found.segments)
    assert found.score == pytest.approx(found.log_prob / length_penalty(length, 0.5))
    assert [other.text for other in found.alternatives] == [
        " ".join(single.alternatives[rank].text for single in singles) for rank in range(2)
    ]


def test_text_without_a_place_to_split_is_still_translated(checkpoint: Path) -> None:
    translator = short_of(checkpoint, 12)
    (found,) = translator.translate(["x" * 200])
    assert "".join(segment.source for segment in found.segments) == "x" * 200
    assert all(len(segment.source_pieces) <= 12 for segment in found.segments)


def test_a_limit_below_one_character_is_refused(checkpoint: Path) -> None:
    translator = short_of(checkpoint, 2)
    with pytest.raises(InputError, match="more than 2 tokens"):
        translator.translate(["👍"])
    assert translator.idle


def test_truncated_says_that_the_limit_was_reached(translator: Translator) -> None:
    tight = SearchConfig(beam_size=2, max_length_ratio=0.0, max_length_extra=1)
    (found,) = translator.translate([TEXTS[2]], tight)
    assert found.truncated == (found.target_tokens == 1)


@pytest.mark.parametrize(
    ("text", "culprit"), [("a\0b", "NUL"), ("a\ud800b", "surrogate")], ids=["nul", "surrogate"]
)
def test_impossible_texts_are_refused_by_number(
    translator: Translator, text: str, culprit: str
) -> None:
    with pytest.raises(InputError, match=culprit):
        translator.add(text)
    with pytest.raises(InputError, match=f"text 2: .*{culprit}"):
        translator.translate([TEXTS[0], text, TEXTS[1]])
    assert translator.idle
    with pytest.raises(InputError, match=f"pair 2: .*{culprit}"):
        translator.score([("a", "b"), ("a", text)])


def test_tickets_come_back_with_their_own_translation(translator: Translator) -> None:
    searches = [None, SearchConfig(beam_size=1), SearchConfig(beam_size=5, length_penalty=0.0)]
    expected, tickets = {}, {}
    for number, text in enumerate([*TEXTS, "", LONG]):
        search = searches[number % 3]
        expected[number] = translator.translate([text], search)[0]
    for number, text in enumerate([*TEXTS, "", LONG]):
        tickets[translator.add(text, searches[number % 3])] = number
    assert not translator.idle
    found = {}
    while not translator.idle:
        found.update({tickets[ticket]: translation for ticket, translation in translator.step()})
    assert found == expected
    assert translator.step() == []


def test_cancelled_texts_never_come_back(checkpoint: Path) -> None:
    translator = Translator(load_checkpoint(checkpoint, precision="fp32"), max_slots=2)
    tickets = [translator.add(text) for text in [*TEXTS, "", LONG]]
    assert translator.num_waiting == 7  # the blank one needs no slot, the long one two
    found = dict(translator.step())
    assert list(found) == [tickets[5]]
    for ticket in (tickets[0], tickets[4], tickets[6], 12345):
        translator.cancel(ticket)
    while not translator.idle:
        found.update(translator.step())
    assert sorted(found) == [*tickets[1:4], tickets[5]]

    ticket = translator.add("")
    translator.cancel(ticket)
    assert translator.idle
    assert translator.step() == []


def test_forced_scores_follow_the_network_step_by_step(translator: Translator) -> None:
    pairs = [*zip(TEXTS, reversed(TEXTS), strict=True), ("pears", "Wir haben"), ("ten", "Äpfel 👍")]
    scores = translator.score(pairs)
    assert scores == [translator.score([pair])[0] for pair in pairs]
    tokenizers, network = translator.checkpoint.tokenizers, translator.checkpoint.network
    for (source, target), forced in zip(pairs, scores, strict=True):
        target_ids = tokenizers.target.encode(target)
        state = network.encode(SourceBatch.from_ids([[*tokenizers.source.encode(source), EOS]]))
        expected = []
        for previous, wanted in itertools.pairwise([BOS, *target_ids, EOS]):
            output = slow_step(network, torch.tensor([previous]), state)
            state = output.state
            expected.append(output.logits[0].log_softmax(-1)[wanted].item())
        assert forced.token_log_probs == pytest.approx(expected, abs=1e-5)
        assert forced.log_prob == pytest.approx(sum(expected), abs=1e-4)
        penalty = length_penalty(len(expected), translator.search.length_penalty)
        assert forced.score == pytest.approx(sum(expected) / penalty, abs=1e-4)
        assert forced.pieces == tuple(tokenizers.target.pieces(target_ids))


def test_forced_scores_of_empty_and_too_long_texts(translator: Translator) -> None:
    (empty,) = translator.score([("pears", "")])
    assert (len(empty.token_log_probs), empty.pieces) == (1, ())
    with pytest.raises(InputError, match=r"pair 1: source has .* tokens, the limit is 40"):
        translator.score([("pears " * 100, "x")])
    with pytest.raises(InputError, match=r"pair 2: target has .* tokens, the limit is"):
        translator.score([("pears", "x"), ("pears", "pears " * 200)])
    assert translator.score([]) == []


def test_gradients_are_never_recorded(translator: Translator) -> None:
    with torch.enable_grad():
        assert translator.translate(TEXTS[:1])
        assert translator.score([("a", "b")])


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        Translator.load(tmp_path / "nowhere")
