"""The languages that a client can request or a model can report: one table of codes and names.

A code is ISO 639-1, or 639-3 where there is none (yue, haw); Javanese is jw and Tagalog tl, as in Whisper's vocabulary.
Regions and scripts after a code (pt-BR, zh-Hans, en_US) don't choose a language of their own, except that zh-HK and
zh-MO are Cantonese, as with other speech services; zh-CN, zh-TW, zh-SG, zh-Hans and zh-Hant are Mandarin, zh, and so
are explicit codes for it (cmn-HK). Codes for an unspecified language (und, mul, zxx, mis, qaa) give no language.
"""

import re
import unicodedata

from engines.types.errors import InvalidRequest

# code | English name | other codes and English names | Chinese names; one in 语 also goes with 語, either with 文.
_TABLE = """
zh | Chinese | zho, chi, cmn, mandarin, mandarin chinese, putonghua, zh-cmn | 中文, 普通话, 普通話, 国语, 國語
zh | Chinese | | 汉语, 漢語, 华语, 華語, 官话, 官話
zh | Chinese | simplified chinese, chinese (simplified) | 简体中文, 簡體中文
zh | Chinese | traditional chinese, chinese (traditional) | 繁体中文, 繁體中文
yue | Cantonese | zh-yue, zh-hk, zh-mo, cantonese chinese | 粤语, 粵語, 广东话, 廣東話, 广州话, 廣州話, 白话, 白話
en | English | eng | 英语
ja | Japanese | jpn | 日语, 日本语
ko | Korean | kor | 韩语, 韓語, 韩国语, 韓國語, 朝鲜语, 朝鮮語
de | German | deu, ger | 德语
fr | French | fra, fre | 法语
es | Spanish | spa, castilian | 西班牙语, 西语
pt | Portuguese | por | 葡萄牙语, 葡语
it | Italian | ita | 意大利语, 義大利語, 意语
ru | Russian | rus | 俄语, 俄罗斯语, 俄羅斯語
ar | Arabic | ara | 阿拉伯语
nl | Dutch | nld, dut, flemish | 荷兰语, 荷蘭語
tr | Turkish | tur | 土耳其语
pl | Polish | pol | 波兰语, 波蘭語
sv | Swedish | swe | 瑞典语
da | Danish | dan | 丹麦语, 丹麥語
fi | Finnish | fin | 芬兰语, 芬蘭語
no | Norwegian | nor, nb, nob, bokmal, norwegian bokmal | 挪威语
nn | Nynorsk | nno, norwegian nynorsk | 新挪威语
is | Icelandic | isl, ice | 冰岛语, 冰島語
fo | Faroese | fao | 法罗语, 法羅語
el | Greek | ell, gre | 希腊语, 希臘語
cs | Czech | ces, cze | 捷克语
sk | Slovak | slk, slo | 斯洛伐克语
sl | Slovenian | slv, slovene | 斯洛文尼亚语, 斯洛維尼亞語
hu | Hungarian | hun | 匈牙利语
ro | Romanian | ron, rum, moldavian, moldovan | 罗马尼亚语, 羅馬尼亞語
bg | Bulgarian | bul | 保加利亚语, 保加利亞語
hr | Croatian | hrv | 克罗地亚语, 克羅埃西亞語
sr | Serbian | srp | 塞尔维亚语, 塞爾維亞語
bs | Bosnian | bos | 波斯尼亚语, 波士尼亞語
mk | Macedonian | mkd, mac | 马其顿语, 馬其頓語
sq | Albanian | sqi, alb | 阿尔巴尼亚语, 阿爾巴尼亞語
uk | Ukrainian | ukr | 乌克兰语, 烏克蘭語
be | Belarusian | bel | 白俄罗斯语, 白俄羅斯語
lt | Lithuanian | lit | 立陶宛语
lv | Latvian | lav | 拉脱维亚语, 拉脫維亞語
et | Estonian | est | 爱沙尼亚语, 愛沙尼亞語
ca | Catalan | cat, valencian | 加泰罗尼亚语, 加泰隆尼亞語
gl | Galician | glg | 加利西亚语, 加里西亞語
eu | Basque | eus, baq | 巴斯克语
oc | Occitan | oci | 奥克语, 奧克語
br | Breton | bre | 布列塔尼语
cy | Welsh | cym, wel | 威尔士语, 威爾斯語
lb | Luxembourgish | ltz, letzeburgesch | 卢森堡语, 盧森堡語
mt | Maltese | mlt | 马耳他语, 馬爾他語
la | Latin | lat | 拉丁语
sa | Sanskrit | san | 梵语
he | Hebrew | heb, iw | 希伯来语, 希伯來語
yi | Yiddish | yid | 意第绪语, 意第緒語
fa | Persian | fas, per, farsi | 波斯语
ps | Pashto | pus, pushto | 普什图语, 普什圖語
tg | Tajik | tgk | 塔吉克语
ur | Urdu | urd | 乌尔都语, 烏爾都語
hi | Hindi | hin | 印地语
bn | Bengali | ben, bangla | 孟加拉语
pa | Punjabi | pan, panjabi | 旁遮普语
gu | Gujarati | guj | 古吉拉特语
mr | Marathi | mar | 马拉地语, 馬拉地語
ne | Nepali | nep | 尼泊尔语, 尼泊爾語
as | Assamese | asm | 阿萨姆语, 阿薩姆語
sd | Sindhi | snd | 信德语
si | Sinhala | sin, sinhalese | 僧伽罗语, 僧伽羅語
ta | Tamil | tam | 泰米尔语, 泰米爾語, 坦米尔语, 坦米爾語
te | Telugu | tel | 泰卢固语, 泰盧固語
kn | Kannada | kan | 卡纳达语, 卡納達語
ml | Malayalam | mal | 马拉雅拉姆语, 馬拉雅拉姆語
th | Thai | tha | 泰语
lo | Lao | laotian | 老挝语, 寮语
km | Khmer | khm, cambodian | 高棉语, 柬埔寨语
my | Burmese | mya, bur, myanmar | 缅甸语, 緬甸語, 缅语, 緬語
vi | Vietnamese | vie | 越南语, 越语
id | Indonesian | ind, bahasa indonesia | 印尼语, 印度尼西亚语, 印度尼西亞語
ms | Malay | msa, may, zsm, bahasa melayu | 马来语, 馬來語
tl | Tagalog | tgl, fil, filipino | 他加禄语, 他加祿語, 菲律宾语, 菲律賓語
jw | Javanese | jv, jav | 爪哇语
su | Sundanese | sun | 巽他语
mg | Malagasy | mlg | 马达加斯加语, 馬達加斯加語
mi | Maori | mri, mao | 毛利语
haw | Hawaiian | | 夏威夷语
bo | Tibetan | bod, tib | 藏语
mn | Mongolian | mon | 蒙古语, 蒙语
kk | Kazakh | kaz | 哈萨克语, 哈薩克語
uz | Uzbek | uzb | 乌兹别克语, 烏茲別克語
tk | Turkmen | tuk | 土库曼语, 土庫曼語
tt | Tatar | tat | 鞑靼语, 韃靼語
ba | Bashkir | bak | 巴什基尔语, 巴什基爾語
az | Azerbaijani | aze | 阿塞拜疆语, 亞塞拜然語
ka | Georgian | kat, geo | 格鲁吉亚语, 格魯吉亞語, 喬治亞語
hy | Armenian | hye, arm | 亚美尼亚语, 亞美尼亞語
af | Afrikaans | afr | 南非语, 南非荷兰语, 南非荷蘭語
sw | Swahili | swa | 斯瓦希里语
am | Amharic | amh | 阿姆哈拉语
so | Somali | som | 索马里语, 索馬利亞語, 索馬里語
ha | Hausa | hau | 豪萨语, 豪薩語
yo | Yoruba | yor | 约鲁巴语, 約魯巴語
sn | Shona | sna | 绍纳语, 紹納語
ln | Lingala | lin | 林加拉语
ht | Haitian Creole | hat, haitian | 海地语, 海地克里奥尔语, 海地克里奧爾語
"""
# Further codes of ISO 639-3 for languages that are one in the table, and codes that are no longer in use.
_ALSO = """
ar arb arz apc ajp ary aeb arq acm acw ars afb ayl apd acq shu
zh zh-cmn | no nb | sr scc | hr scr | ro mo mol | id in | yi ji ydd | fa pes prs | sq als aln | lv lvs | et ekk
az azj azb | uz uzn uzs | mn khk mvf | ne npi | sw swh swc | ms zsm zlm | mg plt | ps pbu pbt pst | ta tam | hi hin
"""
_REGIONAL = re.compile(
    r"([a-z]{2,3})(?:-([a-z]{3}))?(?:-[a-z]{4})?(?:-([a-z]{2}|\d{3}))?"  # language, its kind, script, region
    r"(?:-\d[a-z0-9]{3})*(?:-[a-z0-9](?:-[a-z0-9]{2,8})+)*(?:\.[a-z0-9-]+)?(?:@[a-z]+)?"  # years, extensions, locales
)
_CANTONESE_REGIONS = ("hk", "mo")
_UNTOLD = ("", "auto", "自动", "自動", "unknown", "undetermined")
_UNTOLD_CODES = re.compile(r"und|mul|zxx|mis|q[a-t][a-z]")  # of ISO 639-2; the last are for private use
_QWEN_NAMES = {"tl": "Filipino"}  # where Qwen3-ASR's name isn't the usual one


def _read_table() -> tuple[dict[str, str], dict[str, str]]:
    """English names by code, and codes by every accepted name or code."""
    names: dict[str, str] = {}
    codes: dict[str, str] = {}
    for line in _TABLE.strip().splitlines():
        code, name, *others = (field.strip() for field in line.split("|"))
        names[code] = name
        called = [code, name, *(other.strip() for field in others for other in field.split(","))]
        for one in filter(None, map(_normal, called)):
            for form in _forms(one):
                if codes.setdefault(form, code) != code:
                    raise ValueError(f"{form} names both {codes[form]} and {code}")
    for code, *others in (line.split() for line in _ALSO.replace("|", "\n").strip().splitlines()):
        for other in others:
            if codes.setdefault(other, code) != code:
                raise ValueError(f"{other} names both {codes[other]} and {code}")
    return names, codes


def _forms(name: str) -> tuple[str, ...]:
    """A name, and its other Chinese spellings."""
    if name.endswith("语"):
        return name, f"{name[:-1]}語", f"{name[:-1]}文"
    return (name, f"{name[:-1]}文") if name.endswith("語") else (name,)


def _normal(text: str) -> str:
    """The form in which names are compared: no case, width, accents or outer space; hyphens for underscores."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text)).casefold()
    return " ".join("".join(c for c in folded if not unicodedata.combining(c)).replace("_", "-").split())


_NAMES, _CODES = _read_table()
CODES = tuple(sorted(_NAMES))


def _find(text: str) -> str | None:
    """The code for a code or name; None if there is none."""
    called = _normal(text)
    if called in _CODES:
        return _CODES[called]
    if not (match := _REGIONAL.fullmatch(called)):
        return None
    language, kind, region = match.groups()
    code = _CODES.get(kind or language)
    if kind and _CODES.get(language) != "zh":
        return None
    is_any_chinese = not kind and language in ("zh", "zho", "chi")
    return "yue" if is_any_chinese and region in _CANTONESE_REGIONS else code


def parse(text: str, param: str = "language") -> str:
    """The code of the language that a client names by code, regional code, or name in English or Chinese.

    "", "auto" and codes for an unspecified language give "": the model detects the language. Raises `InvalidRequest`,
    which lists the codes, for an unknown one.
    """
    called = _normal(text)
    match = _REGIONAL.fullmatch(called)
    if called in _UNTOLD or (match and not match[2] and _UNTOLD_CODES.fullmatch(match[1])):
        return ""
    if (code := _find(text)) is None:
        raise InvalidRequest(
            f"{text[:40]!r} is no language known here. Give a code or an English or Chinese name, or leave {param} out "
            f"to have it detected. Codes: {', '.join(CODES)}.",
            param=param,
        )
    return code


def english_name(code: str) -> str:
    """The usual English name of a code of `CODES`; "" for ""."""
    return _NAMES[code] if code else ""


def names_of_qwen() -> frozenset[str]:
    """Every name that `name_for_qwen` can return."""
    return frozenset(map(name_for_qwen, CODES))


def name_for_qwen(code: str) -> str:
    """The name by which Qwen's models know a language ("Chinese", "Cantonese"); "" for "".

    Their checkpoints list the names that they know; this gives one for every code, known to them or not.
    """
    return _QWEN_NAMES.get(code) or english_name(code)


def code_of(name: str) -> str | None:
    """The code of a language as a model names it; "" for "None" (no speech), None for an unknown name."""
    return "" if _normal(name) in ("none", "") else _find(name)
