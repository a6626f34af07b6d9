"""The reference page of messages is up to date with the code."""

from pathlib import Path

import pytest

from tests.messages import messages_page

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "messages.md"


def test_the_page_of_messages_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    page = PAGE.read_text(encoding="utf-8")
    assert page == messages_page(), f"run: python -m tests.messages {PAGE.relative_to(Path.cwd())}"
