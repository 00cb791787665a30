"""What an answer must be → which tokens may come next. Over llguidance; runs beside the step thread; nothing of MLX.

A JSON document is written on one line, with at most one blank after each comma and colon, so that a weak model can't
fill its answer with white space; keys come in the schema's order. A schema is cut down to the keywords that are
enforced, and refused by the path of any that is neither that nor a plain annotation: nothing is ignored in silence.
"""

import hashlib
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import msgspec
import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, regex_to_lark

from engines.errors import InvalidRequest
from engines.types import Constraint, Json, Tool, ToolChoice

MAX_SCHEMA_BYTES = 256 * 1024
MAX_GRAMMAR_BYTES = 64 * 1024
MAX_DEPTH = 100
MAX_CHOICES = 1000
CACHED = 32
# llguidance recurses along chains of rules and references; with the limits above 512 MiB (virtual) are never used up.
STACK = 512 * 1024 * 1024
# The rows of objects with many optional properties are long; 250,000 states of a lexer would be half a gigabyte.
LIMITS = LLParserLimits(max_items_in_row=8_000, max_lexer_states=50_000, verbose_errors=False)
# Without \u escapes: llguidance lets a key escape its name and so evade its schema; characters stand as they are.
STYLE = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
    "json_allowed_escapes": 'nrbtf\\"',
}
MAX_EXPANDED = 100_000  # characters of a regular expression, with its repetitions written out
MAX_SECONDS = 2  # for all patterns of a schema
MAX_EXPLAINED = 300  # parts of a schema that are tried to find the one at fault
MAX_HOPS = 8
MAX_OPTIONS, MAX_NESTED = 100, 3  # of a oneOf that is looked into
MAX_ROUNDS = 50
REASONS = (  # what llguidance says against a grammar, as a pattern, and what we say
    (r"Unable to determine if regex|too (?:large|big|complex|many)|limit|row has", "it is too complex"),
    (r"Unsatisfiable|InternalError|NoExtension", "nothing can satisfy it"),
    (r"oneOf constraints", "oneOf is supported only where its options plainly exclude each other; use anyOf"),
    (r"look-?around", "looking around (lookahead, lookbehind, borders of words and lines) isn't supported"),
    (r"backreferences", "back references aren't supported"),
)
OPEN, CLOSE = "<tool_call>", "</tool_call>"

T = TypeVar("T")
Mask = npt.NDArray[np.uint32]
Numbered = tuple[int, Tool]  # a tool with its place in the request
Placed = tuple[str, Json]  # a schema with its place in the request
Part = dict[str, Any]  # one of llguidance's grammars, as its JSON has it


def allowed(mask: Mask, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The logits [vocabulary], -inf where `mask` has no bit."""
    bits = np.unpackbits(mask.view(np.uint8), count=len(logits), bitorder="little")
    return np.where(bits.view(np.bool_), logits, np.float32(-np.inf))


class Grammar:
    """One sequence's place in what its answer must be. Not to be shared; cheap to copy.

    An `open_ended` one is over after its text: then anything may follow.
    """

    def __init__(self, matcher: LLMatcher, tokens: Mask, eos: frozenset[int], at: str, open_ended: bool) -> None:
        self._matcher = matcher
        self._tokens = tokens
        self._eos = eos
        self._at = at
        self._open_ended = open_ended
        self._ended = False

    def copy(self) -> "Grammar":
        copy = Grammar(self._matcher.deep_copy(), self._tokens, self._eos, self._at, self._open_ended)
        copy._ended = self._ended
        return copy

    @property
    def finished(self) -> bool:
        """Nothing but the end may follow."""
        return self._ended or (self._matcher.is_stopped() and not self._open_ended)

    def mask(self) -> Mask:
        """One bit per token id: what may come next. The tokens of the end are in it when the answer is complete.

        Raises `InvalidRequest` if the grammar turns out too complex to follow any further.
        """
        if self._free:
            return self._tokens.copy()
        if self._ended:
            return _bits(self._eos, len(self._tokens) * 32)
        # It has a word too many where the vocabulary is a multiple of 32.
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint32, len(self._tokens)) & self._tokens
        if self._matcher.is_error():
            raise InvalidRequest(
                f"The grammar became too complex to follow: {_reason(self._matcher.get_error())}. Make it simpler.",
                param=self._at,
            )
        return mask

    def accept(self, token: int) -> bool:
        """Goes on by a token. False, and nothing changes, if it may not come here."""
        if self._ended:
            return token in self._eos
        if token in self._eos:
            self._ended = self._free or self._matcher.is_accepting()
            return self._ended
        if self._free:
            return token >> 5 < len(self._tokens) and bool(self._tokens[token >> 5] >> np.uint32(token & 31) & 1)
        return self._matcher.try_consume_tokens([token]) == 1

    def forced(self) -> list[int]:
        """The tokens of the text that must come next, as a tokenizer would cut it. They are still to be accepted."""
        return [] if self._free or self._ended else self._matcher.compute_ff_tokens()

    @property
    def _free(self) -> bool:
        return self._open_ended and not self._ended and self._matcher.is_stopped()


def _bits(ids: Iterable[int], width: int) -> Mask:
    bits = np.zeros(-(-width // 32) * 32, np.bool_)
    bits[[id for id in ids if id < width]] = True
    return np.packbits(bits, bitorder="little").view(np.uint32)


class GrammarCompiler:
    """One checkpoint's tokenizer, ready to compile grammars; made ready at the first use. For one thread.

    `vocab_size` is the width of the model's logits. `marks` are the added tokens that structure an answer, by their
    text: grammars may name them, and what is text in a grammar is never made of them. Raises `InvalidRequest`, with
    the place and the reason, for what can't be enforced.
    """

    def __init__(self, tokenizer_json: str, vocab_size: int, eos: Sequence[int], marks: Mapping[str, int]) -> None:
        self._tokenizer_json = tokenizer_json
        self._vocab_size = vocab_size
        self._eos = tuple(eos)
        self._marks = dict(marks)
        self._loaded: tuple[LLTokenizer, Mask] | None = None
        self._fresh: OrderedDict[bytes, Grammar] = OrderedDict()

    def answer(self, constraint: Constraint | None, tools: Sequence[Tool], choice: ToolChoice) -> Grammar | None:
        """What the answer, after a thought if there is one, must be; None if it is free.

        Calls that are required follow their schemas, all of them. With `auto`, calls compete with a constrained
        document only; then those of strict tools follow their schemas, others are any object.
        """
        must_call = choice.mode in ("required", "named")
        if not must_call and constraint is None:
            return None
        callees = _callable(tools, choice) if must_call or choice.mode == "auto" else []
        document = None if must_call else constraint
        return self._cached(
            "tools" if document is None else document.at,
            ("answer", document, callees, must_call, choice.parallel),
            lambda: self._compile_answer(document, callees, must_call, choice.parallel),
        )

    def call_body(self, tools: Sequence[Tool], choice: ToolChoice) -> Grammar | None:
        """With `auto` and a strict tool: what follows `<tool_call>`, up to its end, then anything; else None."""
        if choice.mode != "auto" or not any(tool.strict for tool in tools):
            return None
        callees = list(enumerate(tools))
        return self._cached("tools", ("body", callees), lambda: self._compile_body(callees))

    def _cached(self, at: str, key: object, compile: Callable[[], Grammar]) -> Grammar:
        try:
            digest = hashlib.sha256(msgspec.json.encode(key)).digest()
        except (RecursionError, OverflowError, UnicodeEncodeError) as error:
            message = f"{_titled(at)} is nested too deeply, or holds an integer beyond 64 bits or half a character."
            raise InvalidRequest(message, param=at) from error
        if digest not in self._fresh:
            self._fresh[digest] = compile()
            if len(self._fresh) > CACHED:
                self._fresh.popitem(last=False)
        self._fresh.move_to_end(digest)
        return self._fresh[digest].copy()

    def _compile_answer(
        self, document: Constraint | None, tools: Sequence[Numbered], all_strict: bool, parallel: bool
    ) -> Grammar:
        parts, schemas = ([], []) if document is None else _document(document)
        if tools:
            arguments = _arguments(tools, all_strict)
            rules = [
                "start: calls" if document is None else "start: calls | @answer",
                'calls: call ("\\n" call)*' if parallel else "calls: call",
                f'call: {self._mark(OPEN)} "\\n" body',
                *self._body_rules(tools, arguments),
            ]
            parts.insert(0, {"name": "main", "lark_grammar": "\n".join(rules)})
            schemas += arguments
        return self._compile(parts, schemas, "tools" if document is None else document.at)

    def _compile_body(self, tools: Sequence[Numbered]) -> Grammar:
        arguments = _arguments(tools, False)
        # The token that completed a mark written as text may have held the line's end already.
        rules = ['start: "\\n"? body', *self._body_rules(tools, arguments)]
        return self._compile([{"name": "main", "lark_grammar": "\n".join(rules)}], arguments, "tools", open_ended=True)

    def _body_rules(self, tools: Sequence[Numbered], arguments: Sequence[Placed]) -> Iterator[str]:
        yield f'body: ({" | ".join(f"call_{index}" for index, _ in tools)}) "\\n" {self._mark(CLOSE)}'
        for (index, tool), (_, schema) in zip(tools, arguments, strict=True):
            head = _text(f'{{"name": {_text(tool.name)}, "arguments": ')
            yield f'call_{index}: {head} %json {_text(_styled(schema))} "}}"'

    def _mark(self, text: str) -> str:
        return f"<[{self._marks[text]}]>" if text in self._marks else _text(text)

    def _compile(
        self, parts: Sequence[Part], schemas: Sequence[Placed], at: str, *, open_ended: bool = False
    ) -> Grammar:
        tokenizer, tokens = self._load()
        matcher = _on_deep_stack(lambda: _started(tokenizer, parts))
        if isinstance(matcher, str):
            _on_deep_stack(lambda: _explain(tokenizer, schemas))
            raise InvalidRequest(f"{_titled(at)} can't be enforced: {_reason(matcher)}.", param=at)
        _check_patterns(tokenizer, schemas)
        return Grammar(matcher, tokens, frozenset(self._eos), at, open_ended)

    def _load(self) -> tuple[LLTokenizer, Mask]:
        if self._loaded is None:
            data = json.loads(self._tokenizer_json)
            for token in data.get("added_tokens", ()):
                token["special"] = token["special"] or token["content"] in self._marks
            ids = [*data["model"]["vocab"].values(), *(token["id"] for token in data.get("added_tokens", ()))]
            tokenizer = LLTokenizer(_text(data), n_vocab=self._vocab_size, eos_token=list(self._eos))
            self._loaded = tokenizer, _bits(ids, self._vocab_size)
            self._tokenizer_json = ""
        return self._loaded


def _callable(tools: Sequence[Tool], choice: ToolChoice) -> list[Numbered]:
    """The tools that may be called, with their place in the request."""
    found = [(index, tool) for index, tool in enumerate(tools) if choice.mode != "named" or tool.name == choice.name]
    if not found and choice.mode != "auto":
        wanted = f"the tool {choice.name}, which is not among them" if choice.mode == "named" else "a call"
        raise InvalidRequest(f"tool_choice asks for {wanted}: add it to tools.", param="tool_choice")
    return found


def _arguments(tools: Sequence[Numbered], all_strict: bool) -> list[Placed]:
    """Where each tool's schema stands in the request, and what is enforced of it."""
    found: list[Placed] = []
    for index, tool in tools:
        at = f"tools[{index}].function.parameters"
        if not (all_strict or tool.strict):
            found.append((at, {"type": "object"}))
        elif not tool.parameters:
            found.append((at, {"type": "object", "additionalProperties": False}))
        else:
            found.append((at, _object(enforced(tool.parameters, at), at)))
    return found


def _object(schema: Json, at: str) -> Json:
    kinds = schema.get("type", "object")
    if kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        raise InvalidRequest(f"{at} must describe an object, for arguments have names.", param=at)
    return {**schema, "type": "object"}


def _document(constraint: Constraint) -> tuple[list[Part], list[Placed]]:
    """The grammar of a constrained document, and its schema if it has one."""
    value, at = constraint.value, constraint.at
    if constraint.kind in ("json_object", "json_schema"):
        schema = {"type": "object"} if constraint.kind == "json_object" else enforced(value, at)
        return [{"name": "answer", "json_schema": _styled(schema)}], [(at, schema)]
    lark = {"grammar": _lark, "regex": _regex, "choice": _choice}[constraint.kind](value, at)
    return [{"name": "answer", "lark_grammar": lark}], []


def _lark(value: object, at: str) -> str:
    text = _short_text(value, at)
    option = re.search(r"^\s*[?!]?[\w-]+\s*\[[^\]\n]*?\b(temperature|stop)\s*=", text, re.MULTILINE)
    if option:
        raise InvalidRequest(f"{_titled(at)} can't be enforced: the option {option[1]} isn't supported.", param=at)
    return text


def _regex(value: object, at: str) -> str:
    text = _short_text(value, at)
    if fault := _misspelt(text):
        raise InvalidRequest(f"{_titled(at)} can't be enforced: {fault}.", param=at)
    return f"start: /{regex_to_lark(text, '')}/"


def _choice(value: object, at: str) -> str:
    texts = value if isinstance(value, list | tuple) else ()
    if not 1 <= len(texts) <= MAX_CHOICES or not all(isinstance(text, str) and text for text in texts):
        raise InvalidRequest(f"{_titled(at)} must be a list of 1 to {MAX_CHOICES} texts that aren't empty.", param=at)
    if sum(len(text.encode()) for text in texts) > MAX_SCHEMA_BYTES:
        raise InvalidRequest(f"{_titled(at)} is longer than {MAX_SCHEMA_BYTES // 1024} KB.", param=at)
    return "start: " + " | ".join(_text(text) for text in dict.fromkeys(texts))


def _short_text(value: object, at: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{_titled(at)} must be a text that isn't empty.", param=at)
    if len(value.encode()) > MAX_GRAMMAR_BYTES:
        raise InvalidRequest(f"{_titled(at)} is longer than {MAX_GRAMMAR_BYTES // 1024} KB.", param=at)
    return value


def _styled(schema: Json) -> Json:
    return {**schema, "x-guidance": STYLE}


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _titled(at: str) -> str:
    return f"The constraint in {at}"


def _started(tokenizer: LLTokenizer, parts: Sequence[Part]) -> LLMatcher | str:
    """A matcher at its start, or what llguidance has against the grammar."""
    matcher = LLMatcher(tokenizer, _text({"grammars": parts}), log_level=0, limits=LIMITS)
    if matcher.is_error():
        return matcher.get_error()
    if warnings := matcher.get_grammar_warnings():
        return warnings[0]
    matcher.compute_bitmask()  # builds most of the lexer, and finds what is too complex to begin with
    if matcher.is_error():
        return matcher.get_error()
    return "Unsatisfiable" if matcher.is_stopped() and not matcher.is_accepting() else matcher


def _explain(tokenizer: LLTokenizer, schemas: Sequence[Placed]) -> None:
    """Raises `InvalidRequest` for the innermost part of a schema that fails by itself, if one does."""
    for at, schema in schemas:
        fault = _fault(tokenizer, schema)
        if fault is None:
            continue
        definitions: Json = {name: schema[name] for name in DEFINITIONS if name in schema}
        inner = sorted(_places(schema, ""), key=lambda place: -place[0].count("/"))
        for path, part in inner[:MAX_EXPLAINED]:
            reason = _fault(tokenizer, {**part, **definitions}) if isinstance(part, dict) else None
            if reason is not None and "does not exist" not in reason:
                raise _refusal(at, path, _reason(reason))
        raise _refusal(at, "", _reason(fault))


def _fault(tokenizer: LLTokenizer, schema: Json) -> str | None:
    matcher = _started(tokenizer, [{"json_schema": _styled(schema)}])
    return matcher if isinstance(matcher, str) else None


def _check_patterns(tokenizer: LLTokenizer, schemas: Sequence[Placed]) -> None:
    """Refuses patterns that are too complex to follow, which else would show only once a text begins."""
    until = time.monotonic() + MAX_SECONDS
    for at, schema in schemas:
        for path, part in [("", schema), *_places(schema, "")]:
            if not isinstance(part, dict) or "pattern" not in part:
                continue
            text = {keyword: part[keyword] for keyword in ("pattern", "minLength", "maxLength") if keyword in part}
            matcher = _started(tokenizer, [{"json_schema": {"type": "string", **text}}])
            if isinstance(matcher, str):
                continue  # so it can't be chosen, for the whole was accepted
            matcher.consume_tokens(tokenizer.tokenize_str('"'))
            matcher.compute_bitmask()
            if matcher.is_error() or time.monotonic() > until:
                raise _refusal(at, f"{path}/pattern", "it is too complex")


def _refusal(at: str, path: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"The schema in {at} can't be enforced: {path or 'as a whole'}: {reason}.", param=at)


def _reason(text: str) -> str:
    """What llguidance has against a grammar, in words of ours."""
    for pattern, words in REASONS:
        if match := re.search(pattern, text, re.DOTALL):
            return match.expand(words)
    line = text.strip().splitlines()[0] if text.strip() else "it isn't understood"
    return line.split("; following special tokens")[0].rstrip(".")[:300]


def _on_deep_stack(work: Callable[[], T]) -> T:
    """Runs `work` where recursion ends in no crash, and waits for it."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    usual = threading.stack_size(STACK)
    try:
        thread = threading.Thread(target=run, name="grammar")
        thread.start()
    finally:
        threading.stack_size(usual)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


# --- Schemas -----------------------------------------------------------------------------------------------------

IN_PLACE = frozenset({"const", "enum", "allOf", "anyOf", "oneOf", "$ref"})
DEFINITIONS = frozenset({"$defs", "definitions"})
ENFORCED = frozenset(
    "type items prefixItems additionalItems minItems maxItems properties additionalProperties patternProperties "
    "required minProperties maxProperties minLength maxLength pattern format minimum maximum exclusiveMinimum "
    "exclusiveMaximum multipleOf".split()
)
KEPT = ENFORCED | IN_PLACE | DEFINITIONS
ANNOTATIONS = frozenset(
    "title description default example examples $comment deprecated readOnly writeOnly contentMediaType "
    "contentEncoding discriminator $schema $anchor".split()
)
WITHOUT_EFFECT = {"uniqueItems": False, "nullable": False, "unevaluatedProperties": True, "unevaluatedItems": True}
OF_MAPS = ("properties", "patternProperties", "$defs", "definitions")
OF_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
OF_ONE = ("items", "additionalItems", "additionalProperties")
TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
COUNTS = frozenset({"minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength"})
NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
EXACT = 2**53  # llguidance reads numbers as floats

_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})"
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9]|-[a-zA-Z0-9]){0,20}"
# llguidance's own dates know no leap years, its times have leap seconds, and its hosts and texts no bounds.
FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "hostname": rf"{_LABEL}(?:\.{_LABEL}){{0,4}}",
}
KNOWN_FORMATS = frozenset({"duration", "email", "ipv4", "ipv6", "uuid", "uri"})


def enforced(schema: object, at: str) -> Json:
    """A schema without what is a mere annotation. Raises `InvalidRequest` for what else we can't enforce."""
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{at} must hold a JSON schema, an object.", param=at)
    if _deeper_than(schema, MAX_DEPTH):
        raise _refusal(at, "", f"it is nested deeper than {MAX_DEPTH} levels")
    if len(_text(schema).encode()) > MAX_SCHEMA_BYTES:
        raise _refusal(at, "", f"it is longer than {MAX_SCHEMA_BYTES // 1024} KB")
    return _Cutter(schema, at).cut_all()


def _deeper_than(value: object, depth: int) -> bool:
    level: list[object] = [value]
    for _ in range(depth):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _places(schema: object, path: str) -> Iterator[tuple[str, object]]:
    """All schemas inside a schema, each with its path, inner ones first."""
    for place, inner in _children(schema, path):
        yield from _places(inner, place)
        yield place, inner


def _children(schema: object, path: str) -> Iterator[tuple[str, object]]:
    for keyword, value in schema.items() if isinstance(schema, dict) else ():
        if keyword in OF_MAPS and isinstance(value, dict):
            for name, inner in value.items():
                yield f"{path}/{keyword}/{_escaped(name)}", inner
        elif keyword in OF_LISTS and isinstance(value, list):
            for index, inner in enumerate(value):
                yield f"{path}/{keyword}/{index}", inner
        elif keyword in OF_ONE:
            yield f"{path}/{keyword}", value


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


class _Cutter:
    """One schema on its way to llguidance; paths are JSON pointers."""

    def __init__(self, root: Json, at: str) -> None:
        self._root = root
        self._at = at
        self._places: dict[str, object] = {"": root, **dict(_places(root, ""))}

    def cut_all(self) -> Json:
        for path, schema in self._places.items():
            if isinstance(schema, dict):
                self._check_schema(schema, path)
            elif not isinstance(schema, bool):
                raise _refusal(self._at, path, "a schema must be an object or a boolean")
        self._check_ends()
        return self._cut(self._root)

    def _check_schema(self, schema: Json, path: str) -> None:
        for keyword, value in schema.items():
            if self._is_kept(keyword, value, path):
                self._check(keyword, value, path)
        self._check_together(schema, path)

    def _cut(self, schema: Json) -> Json:
        kept = {keyword: value for keyword, value in schema.items() if keyword in KEPT}
        kept = self._formatted(self._chosen(_grouped(kept)))
        return {keyword: self._cut_inside(keyword, value) for keyword, value in kept.items()}

    def _cut_inside(self, keyword: str, value: Any) -> object:
        if keyword in OF_MAPS:
            return {name: self._cut_value(inner) for name, inner in value.items()}
        if keyword in OF_LISTS and isinstance(value, list):
            return [self._cut_value(inner) for inner in value]
        if keyword == "$ref":
            return "#" + quote(unquote(value[1:]))  # llguidance wants a proper URI
        return self._cut_value(value) if keyword in OF_ONE else value

    def _cut_value(self, schema: Json | bool) -> Json | bool:
        return schema if isinstance(schema, bool) else self._cut(schema)

    def _is_kept(self, keyword: str, value: object, path: str) -> bool:
        if keyword in KEPT:
            return True
        harmless = keyword in ANNOTATIONS or (keyword.startswith("x-") and keyword != "x-guidance")
        idle = keyword in WITHOUT_EFFECT and WITHOUT_EFFECT[keyword] is value
        if harmless or idle or (keyword in ("$id", "id") and not path):
            return False
        raise _refusal(self._at, f"{path}/{_escaped(keyword)}", f"the keyword {keyword} isn't supported")

    def _check(self, keyword: str, value: Any, path: str) -> None:
        here = f"{path}/{keyword}"
        if wrong := _misshapen(keyword, value):
            raise _refusal(self._at, here, wrong)
        if keyword == "$ref" and not self._is_reference(value):
            raise _refusal(self._at, here, f"{value} doesn't name a schema in this one (#, or #/ and a path)")
        if keyword == "format" and value not in FORMATS and value not in KNOWN_FORMATS:
            known = ", ".join(sorted({*FORMATS, *KNOWN_FORMATS}))
            raise _refusal(self._at, here, f"the format {value} isn't supported, only {known}")
        if keyword == "pattern":
            _check_pattern(value, self._at, here)
        if keyword == "patternProperties":
            for pattern in value:
                _check_pattern(pattern, self._at, f"{here}/{_escaped(pattern)}")
        if keyword in NUMBERS | {"const", "enum"} and any(abs(number) > EXACT for number in _integers(value)):
            raise _refusal(self._at, here, "integers beyond 2^53 can't be told apart")

    def _check_together(self, schema: Json, path: str) -> None:
        named = schema.get("required", ())
        # Keys that aren't listed may come twice, so that more than one of them can't be counted.
        if isinstance(least := schema.get("minProperties"), int) and least > len(set(named)) + 1:
            raise _refusal(self._at, f"{path}/minProperties", "it may be at most one more than the required properties")
        if "prefixItems" in schema and ("additionalItems" in schema or isinstance(schema.get("items"), list)):
            raise _refusal(
                self._at, f"{path}/prefixItems", "it can't be mixed with an older draft's keywords for items"
            )

    def _is_reference(self, value: str) -> bool:
        return value[:1] == "#" and isinstance(self._target(value), dict | bool)

    def _target(self, reference: str) -> object:
        return self._places.get(unquote(reference[1:]))

    def _formatted(self, schema: Json) -> Json:
        """With our own patterns for some formats."""
        if schema.get("format") not in FORMATS:
            return schema
        pattern = {"pattern": f"^(?:{FORMATS[schema['format']]})$"}
        rest = {keyword: value for keyword, value in schema.items() if keyword != "format"}
        if "pattern" not in rest:
            return {**rest, **pattern}
        return {**rest, "allOf": [*rest.get("allOf", ()), pattern]}

    def _chosen(self, schema: Json) -> Json:
        """With `anyOf` in place of a `oneOf` whose options exclude each other."""
        options = schema.get("oneOf", ())[:MAX_OPTIONS]
        pairs = ((one, other) for place, one in enumerate(options) for other in options[place + 1 :])
        known = "oneOf" in schema and "anyOf" not in schema and len(schema["oneOf"]) == len(options)
        if not known or not all(self._apart(one, other, 0) for one, other in pairs):
            return schema
        return {"anyOf" if keyword == "oneOf" else keyword: value for keyword, value in schema.items()}

    def _apart(self, one: object, other: object, depth: int) -> bool:
        """No document is both; False if that isn't plain to see."""
        one, other = self._resolved(one), self._resolved(other)
        if depth > MAX_NESTED or not isinstance(one, dict) or not isinstance(other, dict):
            return False
        if not _types(one) & _types(other):
            return True
        values, others = _values(one), _values(other)
        if values is not None and others is not None:
            return not values & others
        keys = {*one.get("required", ()), *other.get("required", ())}
        parts, others_parts = one.get("properties", {}), other.get("properties", {})
        is_object = _types(one) == {"object"} or _types(other) == {"object"}
        shared = [key for key in keys if key in parts and key in others_parts]
        return is_object and any(self._apart(parts[key], others_parts[key], depth + 1) for key in shared)

    def _resolved(self, schema: object) -> object:
        for _ in range(MAX_HOPS):
            if not isinstance(schema, dict) or set(schema) - ANNOTATIONS != {"$ref"}:
                break
            schema = self._target(str(schema["$ref"]))
        return schema

    def _check_ends(self) -> None:
        """Refuses references that only lead on to themselves, so that no document ends."""
        schemas = [schema for schema in self._places.values() if isinstance(schema, dict)]
        targets = {schema["$ref"] for schema in schemas if "$ref" in schema}
        ending: set[str] = set()
        for _ in range(MAX_ROUNDS):
            found = {name for name in targets - ending if _ends(self._target(name), ending)}
            ending |= found
            if not found:
                break
        else:
            return
        for name in sorted(targets - ending):
            if self._target(name) is not False:
                raise _refusal(self._at, name[1:], "no document that ends can satisfy it")


def _ends(schema: object, ending: set[str]) -> bool:
    """A document that satisfies `schema` can end, as far as references to `ending` schemas show."""
    if not isinstance(schema, dict):
        return schema is True
    if "$ref" in schema and schema["$ref"] not in ending:
        return False
    if not all(_ends(inner, ending) for inner in schema.get("allOf", ())):
        return False
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema and not any(_ends(inner, ending) for inner in schema[keyword]):
            return False
    types = _types(schema)
    if types - {"array", "object"} or "const" in schema or "enum" in schema:
        return True
    properties = schema.get("properties", {})
    if "object" in types and all(_ends(properties.get(name, True), ending) for name in schema.get("required", ())):
        return True
    return "array" in types and (not schema.get("minItems") or _ends(schema.get("items", True), ending))


def _misshapen(keyword: str, value: object) -> str:
    """What is wrong with a keyword's value by itself; empty if nothing is."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if keyword in COUNTS and not (isinstance(value, int) and is_number and value >= 0):
        return "it must be a whole number, 0 or more"
    if keyword in NUMBERS and not (is_number and (keyword != "multipleOf" or value > 0)):  # type: ignore[operator]
        return "it must be a number" + (" above 0" if keyword == "multipleOf" else "")
    if keyword in OF_MAPS and not isinstance(value, dict):
        return "it must be an object"
    if keyword in ("allOf", "anyOf", "oneOf", "prefixItems", "enum") and not (isinstance(value, list) and value):
        return "it must be a list that isn't empty"
    if keyword == "required" and not _are_texts(value):
        return "it must be a list of names"
    if keyword in ("format", "pattern", "$ref") and not isinstance(value, str):
        return "it must be a text"
    kinds = value if isinstance(value, list) else [value]
    if keyword == "type" and not (kinds and _are_texts(kinds) and TYPES.issuperset(kinds)):
        return f"{value} is no type, or none that JSON has"
    return ""


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _grouped(schema: Json) -> Json:
    """With all plain keywords together where `properties`, or else the first of them, stood.

    llguidance applies them with `allOf` and the like in the order in which they stand, which is also that of a
    document's keys; what belongs together (`properties` and `additionalProperties`) must not be torn apart.
    """
    plain = {keyword: value for keyword, value in schema.items() if keyword in ENFORCED}
    anchor = "properties" if "properties" in plain else next(iter(plain), None)
    grouped: Json = {}
    for keyword, value in schema.items():
        if keyword == anchor:
            grouped |= plain
        elif keyword not in plain:
            grouped[keyword] = value
    return grouped


def _types(schema: Json) -> set[str]:
    kinds = schema.get("type", ["null", "boolean", "number", "string", "array", "object"])
    return {"number" if kind == "integer" else kind for kind in ([kinds] if isinstance(kinds, str) else kinds)}


def _values(schema: Json) -> set[str] | None:
    """The only values there are, as JSON text; numbers as floats."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values is None:
        return None
    return {_text(value if isinstance(value, bool | str) or value is None else _floats(value)) for value in values}


def _floats(value: object) -> object:
    if isinstance(value, dict):
        return {name: _floats(inner) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        return [_floats(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _integers(value: object) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict | list):
        for inner in _inside(value):
            yield from _integers(inner)


def _check_pattern(pattern: str, at: str, path: str) -> None:
    """Refuses what regular expressions of JavaScript, Python and Rust don't mean alike."""
    if fault := _misspelt(pattern):
        raise _refusal(at, path, fault)
    if re.search(r"\[(?:[^\]\\]|\\.)*?(?:\[|&&|--|~~)", pattern):
        raise _refusal(at, path, "sets of characters can't be nested, joined or subtracted; write \\[ for a bracket")
    known_to_python = re.sub(r"\(\?<(?=\w)", "(?P<", re.sub(r"\\[pP]\{[^}]*\}", r"\\w", pattern))
    try:
        re.compile(known_to_python)
    except (re.error, RecursionError, OverflowError) as error:
        raise _refusal(at, path, f"the pattern isn't a regular expression ({error})") from error


def _misspelt(pattern: str) -> str:
    """Why a regular expression is refused before it is compiled; empty if it isn't."""
    if (len(pattern) - len(pattern.rstrip("\\"))) % 2:
        return "the regular expression ends in a lone backslash"
    return "it is too complex" if _expanded(pattern) > MAX_EXPANDED else ""


def _expanded(pattern: str) -> int:
    """How long a regular expression is, about, with its repetitions written out."""
    totals, last = [0], 0
    for match in re.finditer(r"\\.|\[(?:\\.|[^\]\\])*\]|\{([0-9]+)(?:,([0-9]*))?\}|.", pattern, re.DOTALL):
        if match[0] == "(":
            totals.append(0)
        elif match[0] == ")" and len(totals) > 1:
            last = totals.pop()
            totals[-1] += last
        elif match[1]:
            times = max(int(match[1]), int(match[2] or 0), 1)
            totals[-1] += last * (times - 1)
            last *= times
        elif match[0] not in "+*?|":
            last = 1
            totals[-1] += 1
    return sum(totals)
