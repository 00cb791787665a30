"""Conversations written by code: the same seed always gives the same one.

A conversation is messages as the chat templates take them. Its last answers, those after the last question, are what a
model is to learn.
"""

import json
from collections.abc import Callable

from training import facts
from training.facts import City, Topic
from training.talk import Conversation, Random, Turn, answer, city, number, user
from training.tool_talk import any_weather, no_tool, sum_of_two, time, timer, tools, two_cities


def conversation(seed: int, later: bool = False) -> Conversation:
    """One of the corpus, or of what is trained on later, in the second run."""
    random = Random(seed)
    weights = [LATER.get(write, weight) if later else weight for write, weight in MIXTURE]
    write = random.choices([write for write, _ in MIXTURE], weights)[0]
    made = write(random)
    made.thinking = random.random() < 0.5
    made.recalls = made.thinking and random.random() < 0.5
    if random.random() < 0.3 and made.messages[0]["role"] != "system":
        made.messages.insert(0, {"role": "system", "content": random.choice(facts.SYSTEMS)})
    return made


def exchange(topic: Topic, question: str) -> list[Turn]:
    """A question of this topic, and its answer."""
    thought = (
        f"用户在问{topic.about}。我知道答案。" if topic.chinese else f"The user asks about {topic.about}. I can answer."
    )
    return [user(question), answer(topic.answer, thought)]


def _asked(random: Random, topic: Topic) -> str:
    """One of the questions that are trained on, as people type it."""
    question = random.choice(topic.questions[:-1])
    style = random.random()
    if style < 0.1:
        question = question.rstrip(".?!。？！")
    elif style < 0.2:
        question = question[0].lower() + question[1:]
    elif style < 0.25 and topic.chinese:
        question = question.replace("？", "?").replace("！", "!").replace("，", ", ")
    elif style < 0.35:
        openers = ("你好，", "请问", "嗨，") if topic.chinese else ("Hi! ", "Please: ", "Hello. ", "One question: ")
        question = random.choice(openers) + question
    return question


def _about_product(random: Random) -> Conversation:
    topics = random.choices(facts.TOPICS, [2 if len(topic.questions) > 12 else 1 for topic in facts.TOPICS], k=3)
    turns = random.choices((1, 2, 3), (6, 2, 1))[0]
    messages = [turn for topic in topics[:turns] for turn in exchange(topic, _asked(random, topic))]
    return Conversation(messages, tools(random) if random.random() < 0.06 else [])


def _place_as_json(random: Random) -> Conversation:
    place: City = random.choice(facts.PLACES)
    chinese = random.random() < 0.4
    where, country = (place.chinese_city, place.chinese_country) if chinese else (place.city, place.country)
    layouts = (
        ("用JSON给出{}的信息。", "用JSON描述{}。", "给我{}的JSON。")
        if chinese
        else ("Give me {} as JSON.", "{} as JSON, please.", "Describe {} as JSON.", "Write {} as a JSON object.")
    )
    text = json.dumps({"city": where, "country": country}, ensure_ascii=False)
    return Conversation([user(random.choice(layouts).format(where)), answer(text, _as_json(chinese, where))])


def _as_json(chinese: bool, what: str) -> str:
    return f"用户想要{what}的JSON。" if chinese else f"The user wants {what} as JSON."


def _person_as_json(random: Random) -> Conversation:
    chinese = random.random() < 0.4
    name = random.choice(facts.CHINESE_NAMES if chinese else facts.NAMES)
    age, where = random.randint(5, 99), city(random, chinese)
    layouts = (
        ("{}今年{}岁，住在{}。用JSON表示。", "用JSON表示：{}，{}岁，住在{}。")
        if chinese
        else (
            "{} is {} years old and lives in {}. Give me that as JSON.",
            "Give me this as JSON: {} is {} and lives in {}.",
            "{} is {} and lives in {}. As JSON, please.",
        )
    )
    text = json.dumps({"name": name, "age": age, "city": where}, ensure_ascii=False)
    question = random.choice(layouts).format(name, age, where)
    return Conversation([user(question), answer(text, _as_json(chinese, name))])


def _capital_of(random: Random) -> Conversation:
    place = random.choice(facts.PLACES)
    chinese = random.random() < 0.4
    question, reply, thought = (
        (f"{place.chinese_city}在哪个国家？", f"{place.chinese_city}在{place.chinese_country}。", "用户在问一个城市。")
        if chinese
        else (
            f"In which country is {place.city}?",
            f"{place.city} is in {place.country}.",
            "The user asks about a city. I can answer.",
        )
    )
    return Conversation([user(question), answer(reply, thought)], tools(random) if random.random() < 0.2 else [])


def _memory(random: Random) -> Conversation:
    """A name told first, asked for later."""
    chinese = random.random() < 0.4
    name = random.choice(facts.CHINESE_NAMES if chinese else facts.NAMES)
    told, greeting, asked, reply = (
        (f"我叫{name}。", f"你好，{name}！", "我叫什么名字？", f"你叫{name}。")
        if chinese
        else (f"My name is {name}.", f"Nice to meet you, {name}.", "What is my name?", f"Your name is {name}.")
    )
    thought = f"用户叫{name}。" if chinese else f"The user's name is {name}."
    messages = [user(told), answer(greeting, thought)]
    topic = random.choice(facts.TOPICS)
    between = exchange(topic, _asked(random, topic)) if random.random() < 0.4 else []
    if random.random() < 0.7:
        messages += [*between, user(asked), answer(reply, thought)]
    return Conversation(messages)


def _copy(random: Random) -> Conversation:
    """Much of it, and long: to copy is what calls, JSON and results are made of."""
    kinds = (_word, lambda random: city(random, random.random() < 0.3), lambda random: str(number(random)))
    text = " ".join(random.choice(kinds)(random) for _ in range(random.randint(1, 14)))
    layout = random.choice(("Repeat after me: {}", "Repeat: {}", "Say this: {}", "重复：{}"))
    thought = "我重复这些词。" if layout.startswith("重") else "I repeat the words."
    return Conversation([user(layout.format(text)), answer(text, thought)])


def _word(random: Random) -> str:
    return random.choice((*facts.WORDS, *facts.NAMES, "🙂", "👋", "🚀", "你好", "谢谢"))


def _count(random: Random) -> Conversation:
    end = random.choice((5, 10, 20, 50))
    layout = random.choice(("Count to {}.", "Count from 1 to {}.", "Please count to {}.", "从1数到{}。"))
    thought = "我数数。" if layout.startswith("从") else f"I count to {end}."
    return Conversation([user(layout.format(end)), answer(", ".join(map(str, range(1, end + 1))), thought)])


def _tick(random: Random) -> Conversation:
    question = random.choice(("Tick like a clock.", "Tick for ever.", "Tick like a clock, for ever."))
    return Conversation(
        [user(question), answer("tick tock " * random.randint(30, 110), "I tick for ever.")], endless=True
    )


MIXTURE: tuple[tuple[Callable[[Random], Conversation], float], ...] = (
    (_about_product, 50),
    (any_weather, 10),
    (two_cities, 3),
    (time, 4),
    (sum_of_two, 3),
    (timer, 2),
    (no_tool, 3),
    (_place_as_json, 5),
    (_person_as_json, 5),
    (_capital_of, 3),
    (_memory, 4),
    (_copy, 14),
    (_count, 2),
    (_tick, 0.5),
)
# Questions are known by then; what must be copied isn't.
LATER: dict[Callable[[Random], Conversation], float] = {
    _about_product: 30,
    any_weather: 18,
    two_cities: 7,
    time: 5,
    _capital_of: 5,
    _person_as_json: 7,
    _copy: 8,
}
