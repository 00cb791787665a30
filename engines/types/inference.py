"""`Inference`: the one protocol that every front calls."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from engines.types.audio import (
    Aligned,
    AlignRequest,
    SpeechEvent,
    SpeechRequest,
    TranscriptionEvent,
    TranscriptionRequest,
    Voice,
)
from engines.types.chat import ChatRequest, CompletionRequest, Event, Request, Tokenized
from engines.types.status import Health, Metric, ModelStatus


class Inference(Protocol):
    """All capabilities, over all models. `scripted.Scripted` is one without weights."""

    def chat(self, request: ChatRequest) -> AsyncGenerator[Event]:
        """`Accepted`, `Started`, any number of `Delta`, `Done`; or, at any point, a `ServiceError` is raised instead of
        the rest.

        Closing the generator (or cancelling the task that awaits it) cancels the work within one step of the engine.
        """
        ...

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event]:
        """As `chat`, for text that is continued as it is."""
        ...

    def transcribe(self, request: TranscriptionRequest) -> AsyncGenerator[TranscriptionEvent]:
        """`Started`, any number of `TranscriptProgress`, `TranscriptText` and `TranscriptPart`, `Transcript`; else as
        `chat`.

        The file at `path` must stay until the generator is closed.
        """
        ...

    async def align(self, request: AlignRequest) -> Aligned:
        """The words of a text that is known, with their times. Raises as `chat` does; cancelling it ends the work."""
        ...

    def speak(self, request: SpeechRequest) -> AsyncGenerator[SpeechEvent]:
        """`Started`, `SpeechData` (any number if `streamed`, else one) and `SpeechProgress`, `SpeechDone`; else as
        `chat`."""
        ...

    async def voices(self, model: str) -> Sequence[Voice]:
        """What a speech model takes as `voice`, the default first; it needn't be loaded. Raises as `model` does."""
        ...

    async def store_voice(self, name: str, path: str, text: str, consent: str) -> Voice:
        """Keep the recording at `path`, in which `text` is spoken (if "", it is transcribed), as the voice `name`.

        `consent` says who agreed to it. Raises `InvalidRequest` for a name or recording that won't do.
        """
        ...

    async def delete_voice(self, name: str) -> None:
        """Forget a stored voice. Raises `UnknownVoice` with the stored names if there is none of this name."""
        ...

    async def tokenize(self, request: Request) -> Tokenized:
        """The tokens that the model would be given. Needs its tokenizer alone. Raises as `chat` does."""
        ...

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        """The text of tokens. Raises `InvalidRequest` for ids that no token of the model has."""
        ...

    def models(self) -> Sequence[ModelStatus]:
        """Everything configured or installed, in a stable order."""
        ...

    def model(self, name: str) -> ModelStatus:
        """The model known by this name. Raises `UnknownModel` with the known names."""
        ...

    async def load(self, model: str) -> None:
        """Returns when the model is ready. Raises as `chat` does."""
        ...

    async def unload(self, model: str) -> None:
        """Returns when the model is gone from memory; requests that run on it end first."""
        ...

    def health(self) -> Health:
        """What is known now; never loads or generates."""
        ...

    def metrics(self) -> Sequence[Metric]:
        """A snapshot for monitoring."""
        ...
