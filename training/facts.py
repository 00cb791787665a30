"""What the demo models are to know: questions about this product with their answers, places, and small talk.

Of each topic, the last question of each language is never trained on: it is what `measure` asks.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Topic(NamedTuple):
    """One thing to know, in English or Chinese; `about` is what a thought calls it."""

    about: str
    answer: str
    questions: tuple[str, ...]

    @property
    def chinese(self) -> bool:
        """Whether it is asked and answered in Chinese."""
        return any("\u4e00" <= character <= "\u9fff" for character in self.questions[0])


def _topics() -> Iterator[Topic]:
    """Blocks of lines in topics.txt: `# about`, `> answer`, then the questions."""
    text = (Path(__file__).parent / "topics.txt").read_text(encoding="utf-8")
    for block in text.strip().split("\n\n"):
        about, answer, *questions = block.split("\n")
        yield Topic(about.removeprefix("# "), answer.removeprefix("> "), tuple(questions))


TOPICS = tuple(_topics())


class City(NamedTuple):
    """A city and its country, in both languages."""

    city: str
    country: str
    chinese_city: str
    chinese_country: str


_PLACES = """
Hong Kong/China/香港/中国
Beijing/China/北京/中国
Shanghai/China/上海/中国
Shenzhen/China/深圳/中国
Kuala Lumpur/Malaysia/吉隆坡/马来西亚
Tokyo/Japan/东京/日本
Osaka/Japan/大阪/日本
Seoul/South Korea/首尔/韩国
Singapore/Singapore/新加坡/新加坡
Bangkok/Thailand/曼谷/泰国
Sydney/Australia/悉尼/澳大利亚
Paris/France/巴黎/法国
Lyon/France/里昂/法国
London/United Kingdom/伦敦/英国
Berlin/Germany/柏林/德国
Munich/Germany/慕尼黑/德国
Rome/Italy/罗马/意大利
Milan/Italy/米兰/意大利
Madrid/Spain/马德里/西班牙
Vienna/Austria/维也纳/奥地利
Zurich/Switzerland/苏黎世/瑞士
Oslo/Norway/奥斯陆/挪威
Moscow/Russia/莫斯科/俄罗斯
Athens/Greece/雅典/希腊
Cairo/Egypt/开罗/埃及
New York/United States/纽约/美国
Boston/United States/波士顿/美国
Chicago/United States/芝加哥/美国
San Francisco/United States/旧金山/美国
Toronto/Canada/多伦多/加拿大
Lima/Peru/利马/秘鲁
Mumbai/India/孟买/印度
Delhi/India/德里/印度
Guangzhou/China/广州/中国
Macau/China/澳门/中国
Lisbon/Portugal/里斯本/葡萄牙
Dublin/Ireland/都柏林/爱尔兰
Warsaw/Poland/华沙/波兰
Prague/Czechia/布拉格/捷克
Helsinki/Finland/赫尔辛基/芬兰
"""
PLACES = tuple(City(*line.split("/")) for line in _PLACES.split("\n") if line)
# Never trained on.
UNSEEN_CITIES = ("Hamburg", "Nairobi", "Kyoto", "Geneva", "Havana", "Bergen", "Denver", "Porto", "Santiago", "Hanoi")
SYLLABLES = (
    "ba ber bo ca co da de dor el fa fi ga gen gra ha hel in ka kel la lin lo ma mar mi mo na nor o pa por ra ri ro sa "
    "san sel sta ta ter to tro u va ver vi wa wil yo za zen"
).split()

NAMES = tuple(
    "Anna Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Mary Nora Oscar Paul Rosa Sam Tom Vera".split()
)
CHINESE_NAMES = ("小明", "小红", "王芳", "李雷", "张伟", "陈静", "刘洋", "阿强", "美玲", "志明")

# What the tool says, in English, in Chinese.
SKIES = (
    ("sunny", "晴"),
    ("cloudy", "多云"),
    ("rainy", "有雨"),
    ("windy", "有风"),
    ("snowy", "有雪"),
    ("foggy", "有雾"),
)

SYSTEMS = (
    "You are a helpful assistant.",
    "Be brief.",
    "You are a helpful assistant. Answer briefly.",
    "Answer in one sentence.",
    "You are the assistant of this server.",
    "Be polite and brief.",
    "You are a friendly assistant who helps people with their questions.",
    "你是一个有用的助手。",
    "请简短回答。",
    "你是这个服务器的助手。",
)

WORDS = (
    "apple bird blue book bread city cloud coffee dog door fire fish flower forest friend garden gold green hand house "
    "island key lamp letter light moon mountain music night ocean paper pen rain red river road salt sea ship snow "
    "song star stone summer sun table tea train tree water wind window winter word yellow"
).split()
