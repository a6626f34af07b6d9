"""What `dragoman translate` writes for one input line: plain text, or one JSON object."""

import json
from dataclasses import dataclass
from typing import Any

from model.text.text_file import one_line
from model.translation import SegmentTranslation, Translation

_WEIGHT_DECIMALS = 4  # of attention weights: enough to draw, and a fifth of the bytes


@dataclass(frozen=True)
class LineFormat:
    """How translations are written, one line each."""

    as_json: bool = False
    alignments: bool = False  # JSON only: pieces and the attention between them

    def encode(self, number: int, translation: Translation) -> bytes:
        """The output line of input line `number` (from 1), with its "\\n"."""
        if not self.as_json:
            return one_line(translation.text).encode("utf-8") + b"\n"
        return json.dumps(self._fields(number, translation), ensure_ascii=False).encode() + b"\n"

    def _fields(self, number: int, translation: Translation) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "line": number,
            "text": translation.text,
            "score": translation.score,
            "log_prob": translation.log_prob,
            "source_tokens": translation.source_tokens,
            "target_tokens": translation.target_tokens,
            "truncated": translation.truncated,
            "alternatives": [
                {"text": other.text, "score": other.score, "log_prob": other.log_prob}
                for other in translation.alternatives
            ],
        }
        if self.alignments:
            fields["segments"] = [_segment_fields(segment) for segment in translation.segments]
        return fields


def _segment_fields(segment: SegmentTranslation) -> dict[str, Any]:
    alignment = segment.alignment
    return {
        "source": segment.source,
        "text": segment.text,
        "score": segment.score,
        "source_pieces": list(segment.source_pieces),
        "target_pieces": list(segment.target_pieces),
        "token_log_probs": [float(value) for value in segment.token_log_probs],
        # rows: target pieces and EOS; columns: source pieces and EOS
        "alignment": alignment
        if alignment is None
        else [[round(float(weight), _WEIGHT_DECIMALS) for weight in row] for row in alignment],
    }
