"""The table of limits names settings that exist, and statuses that the error table gives."""

import re
from collections.abc import Callable

import pytest

from service import errors, limits
from service.errors import InvalidRequest, RequestTooLarge
from service.limits import DEADLINE_HEADER, Limits, QueueUse
from service.protocol.error_table import ERROR_TABLE
from service.settings import Settings

ROWS = [
    [cell.strip() for cell in line.strip("| ").split("|")]
    for line in (limits.__doc__ or "").splitlines()
    if line.startswith("| ") and not line.startswith("| limit")
]


def test_the_table_of_limits_is_true() -> None:
    statuses = {kind: str(status) for kind, status, *_ in ERROR_TABLE}
    assert len(ROWS) > 15
    for _, settings, error, *status in ROWS:
        for name in re.findall(r"[a-z]+_[a-z_]+\*?", settings):
            if name.endswith("*"):
                assert any(each.startswith(name[:-1]) for each in Settings.model_fields)
            else:
                assert name in Settings.model_fields
        if error != "connection closed":
            assert status == [statuses[getattr(errors, error)]]


@pytest.mark.parametrize(
    ("asked", "seconds"), [(None, 8.0), ("2.5", 2.5), ("8", 8.0), ("100", 8.0), ("0.001", 0.001)]
)
def test_a_client_may_ask_for_a_shorter_deadline(asked: str | None, seconds: float) -> None:
    assert Limits(Settings(deadline_s=8.0)).deadline_s(asked) == seconds


@pytest.mark.parametrize("asked", ["", "0", "0.0", "-1", "1e3", "nan", "soon", "٣", "1" * 7])
def test_a_deadline_is_a_number_of_seconds(asked: str) -> None:
    with pytest.raises(InvalidRequest, match=DEADLINE_HEADER):
        Limits(Settings()).deadline_s(asked)


def test_the_limit_itself_is_allowed() -> None:
    checked = Limits(Settings(max_texts=4, max_characters=100, max_body_bytes=1024))
    checked.check_body(1024)
    checked.check_texts(4, 100, field="text")
    checked.check_document(400, field="text")
    checked.check_pieces(4, field="text")
    checked.check_answer(1024)
    checked.check_beam_size(16)
    checked.check_alternatives(15)
    too_large: list[Callable[[], object]] = [
        lambda: checked.check_body(1025),
        lambda: checked.check_texts(5, 1, field="text"),
        lambda: checked.check_texts(1, 101, field="text"),
        lambda: checked.check_document(401, field="text"),
        lambda: checked.check_pieces(5, field="text"),
        lambda: checked.check_answer(1025),
    ]
    for check in too_large:
        with pytest.raises(RequestTooLarge):
            check()
    for check in (lambda: checked.check_beam_size(17), lambda: checked.check_alternatives(16)):
        with pytest.raises(InvalidRequest):
            check()


def test_a_full_queue_names_the_model_the_value_and_the_limit() -> None:
    use = QueueUse(1025, 5000, 0, wait_s=1.0, is_first=False)
    refusal = Limits(Settings(max_queue_texts=1024)).queue_refusal("en-de", use, 8.0, 1.2)
    assert str(refusal) == (
        "model en-de is busy: its queue would hold 1025 texts, the limit is 1024 "
        "(max_queue_texts); retry after 2 s"
    )
    refusal = Limits(Settings(queue_wait_s=0.025)).waiting_refusal("en-de", 1000.0)
    assert str(refusal) == (
        "model en-de is busy: no space became free within 0.025 s (queue_wait_s); retry after 60 s"
    )
