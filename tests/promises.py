"""What we promise, as a list: each with its source and at least one test that is marked with it.

`@promise("core:leave:frees-the-place")` marks the test that fails when the promise is broken; `test_promises.py` checks
that no promise is without a test, and no mark without a promise. `pytest -m promise` runs all that is marked.
"""

from typing import NamedTuple

import pytest


class Promise(NamedTuple):
    source: str
    sentence: str


CORE = "issue 4, the core"
CHAT = "issue 4, a first chat"
ENGINE = "issue 5, the chat engine"
PROJECT = "issue 4, a project that starts"
AUDIO = "issue 7, speech"
FIELD = "issue 13, faults found in use"
MAC = "issue 14, right on a Mac"
HOUSE = "issue 15, the house"

PROMISES: dict[str, Promise] = {
    # -- requests and their models
    "core:request:ends-once": Promise(CORE, "Every accepted request ends exactly once: done, failed or cancelled."),
    "core:request:order": Promise(CORE, "Requests of a model start in the order in which they arrived."),
    "core:load:once": Promise("A10", "However many ask for a cold model, by whatever names, it is loaded once."),
    "core:load:figures": Promise(CORE, "What doesn't fit is refused with the figures, and nothing is unloaded for it."),
    "core:load:leases": Promise("G4", "The leases of all models never exceed the budget, whatever happens."),
    "core:unload:not-under-requests": Promise(CORE, "A model that answers is never unloaded under its requests."),
    "core:unload:idle": Promise(CORE, "Idle time counts from the end of the last request."),
    "core:wait:nobody-for-ever": Promise(CORE, "Nobody waits for ever because a busy model never becomes idle."),
    "core:queue:full": Promise(CORE, "A full queue is 429 with Retry-After, and the others go on."),
    "core:many:hundred": Promise(CORE, "A hundred streams at once all end."),
    "core:many:while-another-loads": Promise(CORE, "Several clients of one model go on while another is loaded."),
    "core:leave:frees-the-place": Promise(CORE, "A client that leaves frees its place, in whatever phase it is."),
    "core:slow-client": Promise(CORE, "A client that reads nothing holds up nobody else."),
    "core:slow-client:place": Promise(
        FIELD, "A client that never reads keeps its place only as long as nobody waits for it."
    ),
    "house:kind-added": Promise(
        HOUSE, "A kind of model is added by a module and an entry, and is served as any other."
    ),
    # -- processes
    "core:runner:death-told": Promise("G5", "A runner's death fails what it was saying; the next request works."),
    "core:runner:death-retried": Promise(CORE, "What had sent nothing when its runner died is tried once more."),
    "core:runner:back-off": Promise("G5", "A model that keeps dying is left alone for longer and longer, and says so."),
    "core:runner:nonsense": Promise(CORE, "A runner that can't be understood is ended, and its requests fail."),
    "core:runner:row-alone": Promise(CORE, "An exception in one request's row never harms the others."),
    "core:watchdog:ended": Promise(CORE, "A runner that hangs is ended, its requests fail and the next ones work."),
    "core:watchdog:told": Promise(CORE, "/health is 503 with model and reason while a runner hangs."),
    "core:watchdog:idle": Promise(FIELD, "An idle or spare runner that hangs is told by /health, and replaced."),
    "core:server:killed": Promise(CORE, "When the server is killed, every runner ends within a second."),
    "core:server:stopped": Promise(CORE, "A stop lets requests end for a while, tells the rest and leaves no process."),
    "core:server:hangup": Promise("13", "The end of the terminal stops the server in order; nohup is obeyed."),
    "core:server:eof": Promise(
        "our own", "With --stop-at-eof a server ends with its stdin: a killed demo leaves none."
    ),
    "core:server:interrupted-twice": Promise("13", "A second SIGINT ends the server and its children at once."),
    "core:server:start-sentence": Promise("13", "What prevents the start is one sentence: what, why, what moves it."),
    "core:server:sleep": Promise("G6", "After a sleep of the machine the work goes on."),
    "core:server:awake": Promise("G6", "A Mac is kept awake while there is work, and no longer."),
    "core:server:loop": Promise("our own", "Nothing blocks the event loop of the server."),
    # -- names and network
    "core:network:none": Promise("G7", "No connection is ever made outside an explicit pull."),
    "core:names:not-installed": Promise(
        "G7", "A model that isn't there is an error within 100 ms; it says how to get it."
    ),
    "core:names:no-paths": Promise(PROJECT, "HTTP clients name models, never paths."),
    "core:names:case": Promise(PROJECT, "Names are known without regard to case."),
    # -- chat
    "chat:batch:greedy": Promise(CHAT, "Greedy in a batch says what it says alone."),
    "chat:stop:hidden": Promise(CHAT, "A stop string is never shown, whatever the tokens."),
    "chat:stream:same": Promise(CHAT, "An answer is the same streamed and whole, usage included."),
    "chat:stream:status": Promise(CHAT, "What is known before the first word has its true status, in a stream too."),
    "chat:stream:error": Promise(CHAT, "A failure within a stream is an error event and a clean end."),
    "chat:stream:comments": Promise("A9", "A silent stream gets comments, in a load and in a long prompt too."),
    "chat:fields:null": Promise("A1", "null means not given, for every optional field."),
    "chat:fields:stop": Promise("A2", "A stop string and a list of it are the same."),
    "chat:fields:named": Promise("A3", "A bad body is a 400 that names the field."),
    "fields:any-json": Promise(
        "issue 13", "Any JSON value in any field of any route is taken, or is a 400 that names the field."
    ),
    "fields:halves": Promise("H5", "Half a character is refused by its place; within a past call it is U+FFFD."),
    "chat:history:calls": Promise("H4", "A call in the history is taken as the text that it is, whatever it is."),
    "chat:history:results": Promise(
        "issue 13", "A tool's result that fits no call is refused by its place, and never given to another call."
    ),
    "chat:limit:clamped": Promise(
        "issue 13",
        "A limit beyond the room is the room; what acts otherwise than given is told, in streams and MCP too.",
    ),
    # -- the chat engine in full
    "chat:sampling:seed": Promise(ENGINE, "Same seed and prompt, same text, whatever else runs in the batch."),
    "chat:sampling:rules": Promise(
        ENGINE, "Temperature comes first; top_k, min_p and top_p let through whom their definitions let through."
    ),
    "chat:sampling:penalties": Promise(ENGINE, "Penalties and biases are those of their documented definitions."),
    "chat:logprobs": Promise(ENGINE, "Logprobs are the model's own, of the tokens that the text was made of."),
    "chat:text:whole": Promise("A7", "Text never holds half a character, and each piece leaves as it is made."),
    "chat:text:control": Promise(ENGINE, "Users' text never becomes control tokens, in tools and calls too."),
    "chat:orders:nothing-lost": Promise(
        "H11", "Every order of turns is rendered, nothing lost, each text in its place."
    ),
    "chat:orders:prefix": Promise(
        "H11", "A longer conversation begins as the shorter one did, so that its cache helps."
    ),
    "chat:length:refused": Promise("H14", "What can't fit by its length alone is refused before it is encoded."),
    "chat:length:pieces": Promise("H14", "A long text is encoded in pieces, beside other threads, to the same tokens."),
    "chat:template:bounds": Promise(
        "issue 13", "A template that has no end, or makes huge texts, harms its request alone."
    ),
    "chat:template:named": Promise("issue 13", "Of named templates tool_use is taken with tools, else default."),
    "chat:calls:families": Promise(
        "issue 13", "A call is a call in the markup that the template teaches, on every split."
    ),
    "chat:calls:history": Promise(
        "H4", "Arguments of past calls that are no object are rendered as the text they are."
    ),
    "chat:prefix:same": Promise(
        ENGINE, "With the prefix cache the text is the same as without, for sliding windows too."
    ),
    "chat:prefix:branches": Promise(ENGINE, "A conversation goes on from any earlier turn without being read again."),
    "chat:prefix:together": Promise(ENGINE, "What requests that arrive together share is computed once."),
    "chat:thought:apart": Promise(ENGINE, "A thought is told apart from the answer, streamed and whole."),
    "chat:thought:cut": Promise("A5", "A thought that is cut is no content."),
    "chat:thought:budget": Promise(ENGINE, "A thought that has used up its budget is closed, and the answer follows."),
    "chat:tools:round-trip": Promise(ENGINE, "A tool is called in the genuine format, and its result is told."),
    "chat:tools:required": Promise(ENGINE, "A call that must be made is made, and matches its schema."),
    "chat:tools:hints": Promise(
        "H6", "Without strict a tool's schema is a hint: what can't be enforced is left out and told, never refused."
    ),
    "chat:tools:declared": Promise(
        "issue 13", "Arguments that follow a schema have no undeclared property, unless additionalProperties says so."
    ),
    "chat:tools:one-entry": Promise(
        "issue 13", "A chunk of a streamed call has one entry, and the first no arguments."
    ),
    "chat:tools:cut": Promise(ENGINE, "A call that was cut is never passed off as a call."),
    "chat:tools:recovered": Promise(
        "A4", "Broken markup around a call is mended or left as text, and nothing vanishes."
    ),
    "chat:schema:holds": Promise(ENGINE, "A document is valid unless cut, behind a thought too."),
    "chat:structure:spellings": Promise(
        "issue 13", "What an answer must be is obeyed in the spellings of OpenAI, vLLM, SGLang and llama.cpp."
    ),
    "chat:schema:refused": Promise("A6", "A schema that can't be enforced is refused with the place."),
    "chat:fields:classes": Promise(
        ENGINE, "Every field of the reference acts, is refused by name, or can not change an answer."
    ),
    "chat:fields:told-back": Promise(ENGINE, "Names in no reference are told back."),
    # -- recordings and speech over HTTP
    "audio:fields:classes": Promise(AUDIO, "Every field of the audio routes acts or is refused by name."),
    "audio:fields:named": Promise("C1", "A bad value of the audio routes is a 400 that names the field."),
    "audio:formats:all": Promise("B4", "All five formats of a transcript come whole and streamed."),
    "audio:formats:types": Promise("B5", "Every format of a transcript has its own content type, and UTF-8."),
    "audio:upload:spooled": Promise(AUDIO, "An upload is spooled to the disk, and gone when it is answered."),
    "audio:upload:names": Promise("B2", "The name of an uploaded file is never used."),
    "audio:upload:broken": Promise(AUDIO, "A broken form is OpenAI's error object, and nothing stays of it."),
    "audio:incomplete:told": Promise(AUDIO, "What is incomplete says so, whatever the format and the stream."),
    "audio:speech:words": Promise("13", "Every word of a text that a reader sees is spoken, in its order."),
    "audio:speech:heard": Promise(
        "13", "Where a model can listen without anything making room for it, speech that lacks words is told."
    ),
    "audio:names:mp3": Promise("13", "OpenAI's names of models speak mp3 where no format is named; ours speak wav."),
    "audio:fields:other-servers": Promise(
        "13", "What other servers call a field of speech is that field, or refused by name, and never another voice."
    ),
    "audio:names:openai": Promise("C3", "OpenAI's names of models and voices work, with nothing else set."),
    "audio:mix:loses-nobody": Promise("13", "Whatever channels and phases a voice is in, it is in the mix."),
    "audio:gaps:told": Promise("13", "Sound that is missing in mid-file is told with its times, and later times hold."),
    "audio:tracks:chosen": Promise("13", "One of several audio tracks can be chosen; one without sound yields."),
    "audio:kinds:read": Promise(
        "13", "What the library can decode is read; a refusal says what was found and what works."
    ),
    "audio:words": Promise(AUDIO, "Words have times on both engines; where the aligner is missing, a 400 says so."),
    "audio:curl": Promise(AUDIO, "Users' curl lines work as they stand, and bundled recordings are heard rightly."),
    "audio:refused-early": Promise(AUDIO, "A file that is no recording is refused without loading a model."),
    "audio:early": Promise(AUDIO, "A streamed transcript begins while it is written; nothing told is taken back."),
    "audio:markup": Promise(
        FIELD, "No markup of a model's protocol is in a text; where it says nobody speaks there is none."
    ),
    "audio:whisper:rules": Promise(
        FIELD, "Whisper's windows are tried again, skipped and followed as in the reference."
    ),
    "audio:translations:by-who-can": Promise(
        "I10", "A model that can't translate, by its checkpoint, is refused and one that can is named."
    ),
    "audio:formats:strict": Promise("I5", "Every shape passes the official package's types strictly."),
    "audio:retry:goes-on": Promise(FIELD, "A client that gave up and asks again goes on where it was cut."),
    "audio:retry:apart": Promise(
        FIELD, "What was heard is given to the same key, model and options alone, for a while."
    ),
    "audio:words:checked": Promise(FIELD, "Times of words that can't be true are dropped, and that is told."),
    "audio:leave": Promise(AUDIO, "Leaving in mid-file frees the engine within a second."),
    "audio:memory": Promise(AUDIO, "An hour of sound costs no more memory than a minute."),
    "audio:media:death": Promise(AUDIO, "A media process that dies costs what is in it, and no other request."),
    "audio:voices:consent": Promise(AUDIO, "A voice is kept with a consent, and not without."),
    # -- HTTP
    "http:error:shape": Promise("OpenAI's reference", "Every failure is OpenAI's error object with its status."),
    "http:error:authenticate": Promise("RFC 9110, 11.6.1", "A 401 says by WWW-Authenticate what is wanted."),
    "http:boundary:rebinding": Promise(
        CHAT, "Only our own Host names (a loopback name with any port) and origins are answered."
    ),
    "http:boundary:pages": Promise(FIELD, "A page whose origin is allowed can read every answer; no other page can."),
    "http:boundary:keys": Promise(CHAT, "A key opens everything, and health needs none."),
    "http:boundary:size": Promise(CHAT, "A body that is too large is refused while it is read."),
    "http:upgrade:ignored": Promise(
        "13, H1", "An offered Upgrade is ignored: the request is answered in HTTP/1.1, the connection goes on."
    ),
    "http:loopback:both": Promise("13, H2", "localhost is both loopbacks, on one port, and nobody else's."),
    "http:encoding:inflated": Promise("13", "A body in gzip or deflate is read within the size limits, or refused."),
    "http:shortage:told": Promise("13", "A full disk is a 507 and a want of descriptors a 503, on every route."),
    "http:head:limits": Promise("13", "Endless headers, targets, trailers and chunk extensions are refused."),
    "http:answer:while-sending": Promise(
        "13", "A client that still sends has its answer, also where the connection ends with it."
    ),
    "http:time:limits": Promise("13", "Headers, bodies that stand still and idle connections have a time limit."),
    "http:connections:bound": Promise(
        "13", "Beyond a bound connections are a 503 with Retry-After; idle ones give way."
    ),
    "http:descriptors:pause": Promise("13", "Out of descriptors the server pauses, says so once, and goes on."),
    "http:trace:answers": Promise(CORE, "X-Request-Id is in every answer."),
    "http:trace:log": Promise(CORE, "X-Request-Id is in every line of the log that concerns a request."),
    # -- MCP
    "mcp:tools:alike": Promise(CHAT, "Tools answer alike on streamable HTTP, SSE and stdio."),
    "mcp:leave:frees-the-place": Promise(CORE, "An agent that gives up or leaves frees its place."),
    "mcp:relay:starts": Promise(CHAT, "The relay starts the service when there is none."),
    "mcp:relay:told": Promise(CHAT, "Without a service each request is told how to start it."),
    "mcp:relay:outlives": Promise(
        "F3", "A service that is killed or restarted costs an agent one answer, not its tools."
    ),
    "mcp:relay:once": Promise("our own", "An agent's request is sent once at most and answered once."),
    "mcp:lines:codes": Promise(FIELD, "What is no good message gets JSON-RPC's code, with the request's own id."),
    "mcp:lines:ids": Promise(FIELD, "An id of every type that JSON-RPC allows is answered as it was sent."),
    "mcp:files:below": Promise(
        FIELD,
        "Over HTTP and SSE only ordinary files in file_roots can be named, and what is missing looks like the rest.",
    ),
    "mcp:http:methods": Promise(FIELD, "A method that a path of MCP isn't for is a 405 with Allow, never a stream."),
    "mcp:http:room": Promise("F3", "Sessions that agents have abandoned lock no new one out."),
    # -- published checkpoints
    "checkpoints:decoders": Promise(
        FIELD, "Whatever the tokenizer's decoder, a stream joins to what it decodes at once."
    ),
    "checkpoints:files": Promise(
        FIELD, "Whatever stands in a model's folder, reading it ends, and what is no file is named."
    ),
    "checkpoints:formats": Promise(FIELD, "A folder of another format is named as that, with what to do."),
    "checkpoints:context": Promise(FIELD, "A model's context is what its rotary embeddings are scaled to."),
    "checkpoints:whisper": Promise(FIELD, "Whisper without a tokenizer, as mlx-whisper has it, runs as downloaded."),
    "checkpoints:sampling": Promise(FIELD, "A checkpoint's own sampling holds where the client gives none."),
    "checkpoints:refused-once": Promise(
        FIELD, "A checkpoint that can't be run is a 422 that says why, and isn't loaded again."
    ),
    # -- on a Mac
    "mac:files:privacy": Promise(MAC, "What macOS keeps from the service is told as that, with the setting to open."),
    "mac:files:cloud": Promise(MAC, "A file that lies in the cloud alone is told as that, and not waited for."),
    "mac:files:durable": Promise(MAC, "What is published is on the disk, and not in its cache."),
    "mac:reproducible": Promise(
        MAC, "Same seed, same text, alone or batched: promised in float32 on a processor; /v1/models says where."
    ),
    "mac:files:names": Promise(MAC, "Names of folders are known in either form of Unicode."),
    "mac:background:waits": Promise(
        MAC, "A recording's further pieces wait while memory is scarce, heat or battery ask for it: a minute at most."
    ),
    "mac:memory:idle-models-go": Promise(MAC, "Under memory pressure idle models are unloaded within seconds."),
    "mac:media:measures-footprint": Promise(MAC, "The media process measures its memory as macOS does to end it."),
    "mac:device:no-wrong-text": Promise(
        MAC, "After a failure of the GPU nothing more is taken from its process: what had said nothing is tried again."
    ),
    # -- the terminal
    "terminal:pipe": Promise(FIELD, "What is piped into chat is one text, put to the question, whatever its bytes."),
    "terminal:output": Promise(FIELD, "A reader that leaves and a full disk end any command without a traceback."),
    "http:metrics:there": Promise(FIELD, "No gauge vanishes: each family has a value, also when no model is there."),
    # -- configuration
    "config:order": Promise(PROJECT, "File, environment, flag: each overrides the one before."),
    "config:errors": Promise(PROJECT, "Unknown keys and wrong types are errors that name the key and what is allowed."),
    "config:lists": Promise(FIELD, "A list is read alike from file, environment and flags."),
    "config:secrets": Promise("our own", "No key is ever shown."),
    "docs:examples": Promise("our own", "Every command and program of README, references and docs runs."),
}


def promise(*ids: str) -> pytest.MarkDecorator:
    """Marks a test with what it proves."""
    unknown = [id for id in ids if id not in PROMISES]
    if unknown:
        raise LookupError(f"no promise of this name: {', '.join(unknown)}")
    return pytest.mark.promise(*ids)
