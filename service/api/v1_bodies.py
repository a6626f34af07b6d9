"""Request and response bodies of the native API, `/v1`.

Types are strict: the string `"5"` is not accepted as a number, nor `true` as 1. Limits that are
settings (number of texts, characters, beam size) are checked in service/limits.py.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from model.text.segmenter import Segmentation
from model.translation import Sign
from service.protocol.fields import TEXT_TAGS

LanguageTag = Annotated[
    str,
    Field(
        max_length=35,
        pattern=r"^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$",
        description="BCP 47 tag in any case: `en`, `pt-BR`; `en-US` falls back to `en`.",
        examples=["en"],
    ),
]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ModelChoice(_Body):
    """The choice of a model, by its name or by its source and target language."""

    source: LanguageTag | None = None
    target: LanguageTag | None = None
    model: Annotated[
        str | None, Field(max_length=255, description="A name that `GET /v1/models` lists.")
    ] = None

    @model_validator(mode="after")
    def _check_choice(self) -> "ModelChoice":
        if (self.source is None) != (self.target is None):
            missing = "source" if self.source is None else "target"
            raise ValueError(f"{missing} is missing; send source and target together")
        if self.model is None and self.source is None:
            raise ValueError("no model is chosen; send source and target, or model")
        if self.source is not None and self.source.lower() == "auto":
            raise ValueError(
                "/v1 does not detect languages; name the source, or use /translate with auto"
            )
        return self


class TranslateRequest(ModelChoice):
    """Texts and options for translating them.

    Search options that are left out take the model's defaults.
    """

    text: Annotated[
        Annotated[str, Tag(TEXT_TAGS[0])] | Annotated[list[str], Tag(TEXT_TAGS[1])],
        Discriminator(lambda value: TEXT_TAGS[isinstance(value, list)]),
        Field(
            description="One text or a list of texts. White space and line breaks between segments "
            "are kept; the translation of a blank text is blank.",
            examples=[["Good morning.", "Where is the station?"]],
        ),
    ]
    beam_size: Annotated[
        int | None, Field(ge=1, description="Number of hypotheses that the search keeps.")
    ] = None
    length_penalty: Annotated[
        float | None,
        Field(
            ge=0,
            le=5,
            allow_inf_nan=False,
            description="Exponent of the length penalty: 0 favours short translations, higher "
            "values longer ones.",
        ),
    ] = None
    alternatives: Annotated[
        int,
        Field(
            ge=0,
            description="Number of further translations of each text; must be below beam_size.",
        ),
    ] = 0
    min_length_ratio: Annotated[
        float | None,
        Field(
            ge=0,
            le=10,
            allow_inf_nan=False,
            description="Minimum number of target pieces per source piece.",
        ),
    ] = None
    max_length_ratio: Annotated[
        float | None,
        Field(
            gt=0,
            le=10,
            allow_inf_nan=False,
            description="Maximum number of target pieces per source piece.",
        ),
    ] = None
    segmentation: Annotated[
        Segmentation | None,
        Field(
            description="The unit that is translated at once: each `sentence`, each `line`, or "
            "with `none` the whole text, whose line breaks become spaces. A unit that is too long "
            "for the model is always split further. Default: the service's setting "
            "`segmentation`, which is `sentence` unless changed."
        ),
    ] = None
    offsets: Annotated[
        bool,
        Field(description="Add the position of each segment in the text and in its translation."),
    ] = False
    words: Annotated[
        bool,
        Field(
            description="Add the words of each segment's translation, with the model's confidence "
            "in each word and the source words that it came from."
        ),
    ] = False
    alignments: Annotated[
        bool,
        Field(description="Add the attention weights of each target piece on the source pieces."),
    ] = False
    token_log_probs: Annotated[
        bool, Field(description="Add the log-probability of each target piece.")
    ] = False
    warnings: Annotated[
        bool, Field(description="Add the signs that a translation may be wrong.")
    ] = False

    @property
    def texts(self) -> list[str]:
        """The texts as a list, also when the request has a single text."""
        return [self.text] if isinstance(self.text, str) else self.text

    def text_field(self, index: int) -> str:
        """The field name that errors use for the text at `index`."""
        return "text" if isinstance(self.text, str) else f"text[{index}]"

    @model_validator(mode="after")
    def _check_ratios(self) -> "TranslateRequest":
        low, high = self.min_length_ratio, self.max_length_ratio
        if low is not None and high is not None and low > high:
            raise ValueError(
                f"min_length_ratio ({low}) is above max_length_ratio ({high}); lower the minimum "
                "or raise the maximum"
            )
        return self


class TextPair(_Body):
    """A source text and a translation of it to score."""

    source: str
    target: str


class ScoreRequest(ModelChoice):
    """Pairs to score.

    The request's `source` and `target` are languages; those of a pair are texts.
    """

    pairs: Annotated[
        list[TextPair],
        Field(examples=[[{"source": "Good morning.", "target": "Guten Morgen."}]]),
    ]


class UsedModel(BaseModel):
    """The model that answered."""

    name: str
    version: str
    source: str
    target: str


class PivotBody(BaseModel):
    """The pivot language between source and target, and the model that translated into it."""

    language: str
    model: UsedModel


class AlternativeBody(BaseModel):
    """Another translation of the same text."""

    text: str
    score: float
    log_prob: float


class SourceWordBody(BaseModel):
    """A source word that a word of the translation came from."""

    text: str
    start: Annotated[int, Field(description="Position in the text, in code points.")]
    end: int
    weight: Annotated[
        float,
        Field(description="Share of the attention; the weights of one target word sum to 1."),
    ]


class WordBody(BaseModel):
    """A word of the translation."""

    text: str
    start: Annotated[int, Field(description="Position in the translation, in code points.")]
    end: int
    confidence: Annotated[
        float,
        Field(description="Probability of the word's pieces given all pieces before them, 0 to 1."),
    ]
    sources: Annotated[
        list[SourceWordBody] | None,
        Field(description="Largest weight first; left out for models without attention."),
    ] = None


class SegmentBody(BaseModel):
    """A part of the text that was translated at once, usually a line or a sentence.

    A segment without readable characters, such as one of control characters only, is returned
    unchanged.
    """

    source: str
    text: str
    score: float
    source_start: Annotated[
        int | None,
        Field(
            description="With `offsets`: position in the text, in Unicode code points. Only white "
            "space stands between segments, before the first and after the last; segments and "
            "white space together are exactly the text and its translation."
        ),
    ] = None
    source_end: int | None = None
    target_start: int | None = None
    target_end: int | None = None
    words: Annotated[list[WordBody] | None, Field(description="With `words`.")] = None
    source_pieces: Annotated[
        list[str] | None, Field(description="With `alignments` or `token_log_probs`.")
    ] = None
    target_pieces: list[str] | None = None
    token_log_probs: Annotated[
        list[float] | None,
        Field(description="Natural logarithms, one for each target piece and one for the end."),
    ] = None
    alignment: Annotated[
        list[list[float]] | None,
        Field(
            description="One row for each target piece and one for the end; one column for each "
            "source piece and one for the end. Each row sums to 1."
        ),
    ] = None


class TranslationBody(BaseModel):
    """One text's translation."""

    text: str
    score: Annotated[float, Field(description="log_prob after the length penalty.")]
    log_prob: Annotated[float, Field(description="Natural logarithm; higher is better.")]
    truncated: Annotated[
        bool, Field(description="Whether a segment's translation was cut off at the length limit.")
    ]
    source_tokens: int
    target_tokens: int
    alternatives: list[AlternativeBody] | None = None
    segments: Annotated[
        list[SegmentBody] | None,
        Field(description="With `offsets`, `words`, `alignments` or `token_log_probs`."),
    ] = None
    warnings: Annotated[
        list[Sign] | None,
        Field(description="With `warnings`: signs of a bad translation; empty if there are none."),
    ] = None


class TranslateResponse(BaseModel):
    """One translation for each text, in the request's order."""

    model: UsedModel
    pivot: Annotated[
        PivotBody | None,
        Field(
            description="The pivot language and the first model, for a translation by two models "
            "through a third language. `model` is then the second model; `log_prob` and `score` "
            "are the sums over both."
        ),
    ] = None
    translations: list[TranslationBody]


class PairScore(BaseModel):
    """The model's score and log-probability of a given translation."""

    score: float
    log_prob: float
    pieces: list[str]
    token_log_probs: list[float]


class ScoreResponse(BaseModel):
    """One score for each pair, in the request's order."""

    model: UsedModel
    scores: list[PairScore]


class ModelBody(BaseModel):
    """A model of the models folder."""

    name: str
    status: Annotated[
        Literal["loading", "ready", "failed", "stopped"],
        Field(description="Only ready models translate; the log says why a model failed."),
    ]
    source: str | None = None
    target: str | None = None
    version: str | None = None
    precision: str | None = None
    exact: Annotated[
        bool | None,
        Field(
            description="Whether a text gets bit-identical results in any batch on this machine; "
            "tested when the model was loaded."
        ),
    ] = None
    max_source_tokens: Annotated[
        int | None, Field(description="Longer texts are split at sentence ends.")
    ] = None
    beam_size: Annotated[
        int | None,
        Field(description="The default beam size; `alternatives` must be below the beam size."),
    ] = None
    metrics: Annotated[
        dict[str, object] | None, Field(description="Scores and provenance from training.")
    ] = None
    replacement: Annotated[
        Literal["loading", "failed"] | None,
        Field(
            description="State of a newer checkpoint of this name that does not serve yet. After "
            "`failed` the current version keeps serving, and the log says why."
        ),
    ] = None


class ModelsResponse(BaseModel):
    """All models of the models folder, by name."""

    models: list[ModelBody]


class HealthResponse(BaseModel):
    """The state of the process (`live`), or of the service and its models (`ready`)."""

    status: str
    models: dict[str, str] | None = None
