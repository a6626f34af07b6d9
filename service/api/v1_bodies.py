"""Request and response bodies of the native face, `/v1`.

Types are strict: `"5"` is no number and `true` is no 1. Limits that are settings (how many texts,
how long, how large a beam) are checked by the translation_service, which knows them.
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
    """Which model does the work: its name, or the languages it goes between."""

    source: LanguageTag | None = None
    target: LanguageTag | None = None
    model: Annotated[
        str | None, Field(max_length=255, description="A name that `GET /v1/models` lists.")
    ] = None

    @model_validator(mode="after")
    def _chosen(self) -> "ModelChoice":
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
    """Texts and how to translate them; what is left out is the model's own default."""

    text: Annotated[
        Annotated[str, Tag(TEXT_TAGS[0])] | Annotated[list[str], Tag(TEXT_TAGS[1])],
        Discriminator(lambda value: TEXT_TAGS[isinstance(value, list)]),
        Field(
            description="One text or a list; white space and line breaks between segments are "
            "kept, blank texts come back blank.",
            examples=[["Good morning.", "Where is the station?"]],
        ),
    ]
    beam_size: Annotated[int | None, Field(ge=1, description="Hypotheses kept at each step.")] = (
        None
    )
    length_penalty: Annotated[
        float | None,
        Field(ge=0, le=5, allow_inf_nan=False, description="0 favours short translations."),
    ] = None
    alternatives: Annotated[
        int, Field(ge=0, description="Further translations of each text; below beam_size.")
    ] = 0
    min_length_ratio: Annotated[
        float | None,
        Field(ge=0, le=10, allow_inf_nan=False, description="Target pieces per source piece."),
    ] = None
    max_length_ratio: Annotated[
        float | None,
        Field(gt=0, le=10, allow_inf_nan=False, description="Target pieces per source piece."),
    ] = None
    segmentation: Annotated[
        Segmentation | None,
        Field(
            description="What is translated in one go: each `sentence`, each `line`, or with "
            "`none` the whole text, in which line breaks become spaces. What is too long for the "
            "model is split further in any case. Default: the service's setting, `sentence` "
            "unless changed."
        ),
    ] = None
    offsets: Annotated[
        bool, Field(description="Add where each segment stands in the text and its translation.")
    ] = False
    words: Annotated[
        bool,
        Field(
            description="Add the words of each segment's translation: how sure the model was of "
            "each, and from which words of the text it came."
        ),
    ] = False
    alignments: Annotated[
        bool, Field(description="Add the attention of each target piece to the source pieces.")
    ] = False
    token_log_probs: Annotated[
        bool, Field(description="Add the log-probability of each target piece.")
    ] = False
    warnings: Annotated[
        bool, Field(description="Add signs that a translation may be wrong, where there are any.")
    ] = False

    @property
    def texts(self) -> list[str]:
        """The texts as a list, also when one came alone."""
        return [self.text] if isinstance(self.text, str) else self.text

    def text_field(self, index: int) -> str:
        """What an error calls the text at `index`."""
        return "text" if isinstance(self.text, str) else f"text[{index}]"

    @model_validator(mode="after")
    def _ratios_in_order(self) -> "TranslateRequest":
        low, high = self.min_length_ratio, self.max_length_ratio
        if low is not None and high is not None and low > high:
            raise ValueError("min_length_ratio is above max_length_ratio")
        return self


class TextPair(_Body):
    """A source text and a translation of it to be judged."""

    source: str
    target: str


class ScoreRequest(ModelChoice):
    """Pairs to score. `source` and `target` beside `pairs` are languages, inside they are texts."""

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
    """The third language that the texts went through, and the model that wrote it."""

    language: str
    model: UsedModel


class AlternativeBody(BaseModel):
    """Another translation of the same text."""

    text: str
    score: float
    log_prob: float


class SourceWordBody(BaseModel):
    """A word of the text that a word of the translation came from."""

    text: str
    start: Annotated[int, Field(description="In the text, in code points.")]
    end: int
    weight: Annotated[
        float, Field(description="Its part of the attention; those of one word sum to 1.")
    ]


class WordBody(BaseModel):
    """A word of the translation."""

    text: str
    start: Annotated[int, Field(description="In the translation, in code points.")]
    end: int
    confidence: Annotated[
        float,
        Field(
            description="Probability of the word's pieces after all that stands before it, 0 to 1."
        ),
    ]
    sources: Annotated[
        list[SourceWordBody] | None,
        Field(description="Heaviest first; left out by models without attention."),
    ] = None


class SegmentBody(BaseModel):
    """A piece of the text that was translated as a whole, usually a line or a sentence.

    One that the model can read nothing in, control characters for one, comes back as it is.
    """

    source: str
    text: str
    score: float
    source_start: Annotated[
        int | None,
        Field(
            description="With `offsets`, in Unicode code points. Between two segments, and before "
            "and behind all, stands white space only: with it the segments make up text and "
            "translation exactly."
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
        list[float] | None, Field(description="Natural logarithms, one a target piece and the end.")
    ] = None
    alignment: Annotated[
        list[list[float]] | None,
        Field(
            description="One row a target piece and the end, one column a source piece and the "
            "end; a row sums to 1."
        ),
    ] = None


class TranslationBody(BaseModel):
    """One text's translation."""

    text: str
    score: Annotated[float, Field(description="log_prob after the length penalty.")]
    log_prob: Annotated[float, Field(description="Natural logarithm; higher is better.")]
    truncated: Annotated[
        bool, Field(description="The length limit ended a translation before the model did.")
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
        Field(description="With `warnings`: signs of a bad translation, an empty list for none."),
    ] = None


class TranslateResponse(BaseModel):
    """One translation for each text, in the request's order."""

    model: UsedModel
    pivot: Annotated[
        PivotBody | None,
        Field(
            description="Where no model goes directly and the service pivots: the language in "
            "between and the first model; `model` is then the last. `log_prob` and `score` are "
            "the sums of both models'."
        ),
    ] = None
    translations: list[TranslationBody]


class PairScore(BaseModel):
    """How likely the model finds a given translation."""

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
        Field(description="Only ready models answer; the log says why one failed."),
    ]
    source: str | None = None
    target: str | None = None
    version: str | None = None
    precision: str | None = None
    exact: Annotated[
        bool | None,
        Field(
            description="Whether a text gets the same translation in any batch on this machine, "
            "to the last bit; tried out when the model was loaded."
        ),
    ] = None
    max_source_tokens: Annotated[
        int | None, Field(description="Longer texts are split at sentence ends.")
    ] = None
    beam_size: Annotated[
        int | None, Field(description="The default; `alternatives` must be below it.")
    ] = None
    metrics: Annotated[
        dict[str, object] | None, Field(description="Scores and provenance from training.")
    ] = None
    replacement: Annotated[
        Literal["loading", "failed"] | None,
        Field(
            description="A newer checkpoint of this name that does not serve yet; after `failed` "
            "this one goes on, and the log says why."
        ),
    ] = None


class ModelsResponse(BaseModel):
    """All models of the models folder, by name."""

    models: list[ModelBody]


class HealthResponse(BaseModel):
    """Live: the process runs. Ready: every loaded model has translated a sentence."""

    status: str
    models: dict[str, str] | None = None
