import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.text.languages import CODES, code_of, english_name, name_for_qwen, parse
from engines.types.errors import InvalidRequest

WHISPER = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml "
    "cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am "
    "yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue"
).split()
QWEN_ASR = (
    "Chinese English Cantonese Arabic German French Spanish Portuguese Indonesian Italian Korean Russian Thai "
    "Vietnamese Japanese Turkish Hindi Malay Dutch Swedish Danish Finnish Polish Czech Filipino Persian Greek "
    "Hungarian Macedonian Romanian"
).split()


def test_the_table_holds_the_languages_of_whisper() -> None:
    assert sorted(CODES) == sorted(WHISPER) and len(WHISPER) == 100


@pytest.mark.parametrize("name", QWEN_ASR)
def test_names_of_qwen_go_both_ways(name: str) -> None:
    code = code_of(name)
    assert code and name_for_qwen(code) == name


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("zh", "zh"), ("ZH", "zh"), ("zh-CN", "zh"), ("zh_TW", "zh"), ("zh-Hant", "zh"), ("zh-Hans-CN", "zh"),
        ("cmn", "zh"), ("cmn-Hans-CN", "zh"), ("Mandarin", "zh"), ("普通话", "zh"), ("國語", "zh"), ("中文", "zh"),
        ("zh-HK", "yue"), ("zh_Hant_HK", "yue"), ("zh-MO", "yue"), ("yue", "yue"), ("yue-HK", "yue"), ("zh-yue", "yue"),
        ("廣東話", "yue"), ("粤语", "yue"), ("粵語", "yue"), (" cantonese ", "yue"), ("CANTONESE", "yue"),
        ("en-US", "en"), ("en_GB", "en"), ("ｅｎ", "en"), ("英文", "en"), ("英語", "en"), ("eng", "en"),
        ("pt-BR", "pt"), ("es-419", "es"), ("日本語", "ja"), ("日文", "ja"), ("fil", "tl"), ("iw", "he"), ("jv", "jw"),
        ("韓文", "ko"), ("韩文", "ko"), ("義大利文", "it"), ("繁體中文", "zh"), ("Chinese (Simplified)", "zh"),
        ("Norwegian Bokmål", "no"), ("haitian  creole", "ht"), ("", ""), ("auto", ""), (" AUTO ", ""), ("自動", ""),
        ("und", ""), ("UND", ""), ("mul", ""), ("zxx", ""), ("mis", ""), ("qaa", ""), ("und-Latn", ""), ("und_US", ""),
        ("unknown", ""), ("zh-Hant-HK", "yue"), ("zho-HK", "yue"), ("cmn-HK", "zh"), ("cmn-Hant-TW", "zh"),
        ("zh-cmn-Hans-CN", "zh"), ("zh-yue-HK", "yue"), ("zh_CN.UTF-8", "zh"), ("de_DE@euro", "de"), ("de-1996", "de"),
        ("yue-Hant-HK", "yue"), ("sr-Latn-RS", "sr"), ("chi", "zh"), ("ger", "de"), ("deu", "de"), ("fre", "fr"),
        ("dut", "nl"), ("cze", "cs"), ("per", "fa"), ("prs", "fa"), ("arz", "ar"), ("may", "ms"), ("bur", "my"),
        ("nb-NO", "no"), ("in", "id"), ("ji", "yi"), ("mo", "ro"), ("en-u-nu-latn", "en"), ("tgl", "tl"), ("jav", "jw"),
    ],
)  # fmt: skip
def test_a_language_is_known_by_its_codes_and_names(text: str, code: str) -> None:
    assert parse(text) == code


@pytest.mark.parametrize(
    "text",
    [
        "xx",
        "klingon",
        "en-nonsense",
        "en-",
        "zh-HK-",
        "en,zh",
        "None",
        "語",
        "nan-TW",
        "gsw",
        "zh-nan",
        "en-yue",
        "zh-gsw",
        "undx",
        "sgn",
    ],
)
def test_an_unknown_language_is_refused_with_the_codes_there_are(text: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(", ".join(CODES))) as caught:
        parse(text, "lang")
    assert caught.value.param == "lang"


def test_every_code_has_a_name_that_leads_back_to_it() -> None:
    for code in CODES:
        assert parse(english_name(code)) == parse(english_name(code).upper()) == parse(code) == code
        assert code_of(name_for_qwen(code)) == code


def test_what_a_model_says_may_be_no_language_or_an_unknown_one() -> None:
    assert code_of("None") == code_of("") == ""
    assert code_of("Klingon") is None
    assert code_of("yue") == "yue"
    assert english_name("") == name_for_qwen("") == ""


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        assert parse(text) in ("", *CODES)
    except InvalidRequest as error:
        assert len(error.message) < 1000
