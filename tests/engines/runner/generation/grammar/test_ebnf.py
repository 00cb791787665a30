"""Grammars in EBNF: the same texts as the grammar has by its definition, no more and no fewer."""

import random
import re

import pytest

from engines.runner.generation.grammar.ebnf import EbnfFault, is_ebnf, lark_of
from tests.engines.runner.generation.grammar import test_compiler as walker
from tests.engines.runner.generation.grammar.test_compiler import WALKS, Model, answer, refusal
from tests.promises import promise

qwen3, gemma3, model = walker.qwen3, walker.gemma3, walker.model  # fixtures
JSON = r"""
# as llama.cpp has it
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""
TEXTS: list[tuple[str, list[str], list[str]]] = [
    ('root ::= "yes" | "no"', ["yes", "no"], ["", "yesno", "ye"]),
    ('root ::= "yes" # c\n  | "no"\n', ["yes", "no"], [""]),
    ('root ::= ("a" | "ab") "bc"', ["abc", "abbc"], ["ab"]),
    ('root ::= ("a" | "ab") "bc" ("(" root ")")?', ["abc", "abbc", "abc(abbc)"], ["abc(", "ab"]),
    ('root ::= "a" root "b" | ""', ["", "ab", "aaabbb"], ["aab", "ba"]),
    ('root ::= [a-z]+ "b"', ["ab", "bb", "abcb"], ["b", "abc"]),
    ('root ::= part{2} [0-9]{0,2} x{1,}\npart ::= "-" [^,\\n]\nx ::= "."', ["-a-é1.", "-1-2..."], ["-a-,.", "-a-b1"]),
    ('root ::= [\\]\\-^a]+ "\\x41\\u00e9\\U0001F600\\n" .', ["^]-aAé😀\n\n", "aAé😀\n字"], ["bAé😀\nx"]),
    ('root ::= [^"] other-rule\nother-rule ::= "/" [/]', ["x//", "\n//"], ['"//']),
    ("root ::= [a-]  [^-a]", ["-b", "ab"], ["a-", "b-"]),
    (JSON, ['{"a": [1, 2.5e-1, {"b": "x\\n\\u00e9"}], "字": true}', "{}"], ['{"a": [1,]}', "[]", '{"a" 1}']),
]


@promise("chat:structure:spellings")
@pytest.mark.parametrize(("grammar", "right", "wrong"), TEXTS)
def test_a_grammar_takes_its_texts_and_no_others(
    grammar: str, right: list[str], wrong: list[str], model: Model
) -> None:
    for kind in ("grammar", "ebnf"):
        assert all(model.takes(answer(model, kind, grammar), text) for text in right)
        assert not any(model.takes(answer(model, kind, grammar), text) for text in wrong)


def test_what_a_regular_grammar_lets_through_is_what_it_describes(model: Model) -> None:
    for seed in range(WALKS):
        text = model.walk(
            answer(model, "ebnf", 'root ::= ("SELECT " | "GET ") col (", " col)* \ncol ::= [a-f]{1,3}'), seed
        )
        assert re.fullmatch(r"(SELECT |GET )[a-f]{1,3}(, [a-f]{1,3})*", text)


@pytest.mark.parametrize("seed", range(30))
def test_rules_that_lead_back_and_those_that_do_not_mean_the_same(seed: int, qwen3: Model) -> None:
    """A grammar as one regular expression, and as one lexeme a character by a rule that leads back: the same texts."""
    dice = random.Random(seed)
    options = [" ".join(f'"{"".join(dice.choices("ab", k=dice.randint(1, 3)))}"' for _ in range(2)) for _ in range(3)]
    body = f"({' | '.join(options)}){dice.choice(['', '?', '+', '{1,2}'])} [ab]"
    once, led = f"root ::= {body}", f'root ::= {body} | "x" root'
    for _ in range(25):
        text = "".join(dice.choices("ab", k=dice.randint(1, 7)))
        assert qwen3.takes(answer(qwen3, "ebnf", once), text) is qwen3.takes(answer(qwen3, "ebnf", led), text)


@promise("chat:schema:refused")
@pytest.mark.parametrize(
    ("grammar", "why"),
    [
        ('root ::= root "a"', "no text that ends"),
        ("root ::= a\na ::= b\nb ::= a", "no text that ends"),
        ("root ::= (x", "bracket"),
        ("root ::= x", "x isn't defined"),
        ('a ::= "x"', "no rule root"),
        ('root ::= "x"\nroot ::= "y"', "twice"),
        ("root ::= [z-a]", "backwards"),
        ("root ::= []", "empty"),
        ('root ::= "\\q"', "escapes nothing"),
        ('root ::= "\\ud83d"', "no character"),
        ("root ::= <think>", "line 1"),
        ('root ::= "a"\nx ::= (= "a") "b"', "line 2"),
        ('root ::= TagDispatch("x")', "isn't defined"),
        ("root ::= * x", "repeat"),
        ('root ::= "a"{3,2}', "times"),
        ('root ::= "a"{1,99999}', "times"),
        ("root ::= " + "(" * 5000, "nested"),
        ('root ::= "a"' + "*" * 5000, "nested"),
        ('root "x"', "NAME ::="),
        ("", "no rule root"),
    ],
)
def test_what_can_not_be_read_is_refused_with_the_reason(grammar: str, why: str) -> None:
    with pytest.raises(EbnfFault, match=re.escape(why)):
        lark_of(grammar)


def test_a_refusal_names_the_field(qwen3: Model) -> None:
    error = refusal(lambda: answer(qwen3, "ebnf", "root ::= x"))
    assert error.param == "response_format" and "the rule x isn't defined" in error.message


def test_a_grammar_says_by_its_form_what_it_is() -> None:
    assert is_ebnf("root ::= x") and is_ebnf("# c\n  root-1 ::=\n x")
    assert not is_ebnf('start: "::="') and not is_ebnf('start: x\nx: "a ::= b"')
