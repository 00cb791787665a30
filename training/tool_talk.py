"""Conversations about tools: what is offered, called, answered and told."""

import json
from collections.abc import Callable, Mapping, Sequence

from training import facts
from training.talk import Conversation, Random, Turn, answer, calls, city, number, user


def _tool(random: Random, name: str, description: str, parameters: Mapping[str, tuple[str, str]]) -> dict[str, object]:
    """As clients describe it: with more words or fewer."""
    strict = random.random() < 0.3
    properties = {
        key: {"type": kind} if random.random() < 0.7 else {"type": kind, "description": text}
        for key, (kind, text) in parameters.items()
    }
    schema: dict[str, object] = {"type": "object", "properties": properties}
    if random.random() < 0.8:
        schema["required"] = list(parameters)
    if strict:
        schema["additionalProperties"] = False
    words = random.choices((description, "", None), (6, 3, 1))[0]
    function = {"name": name, **({} if words is None else {"description": words}), "parameters": schema}
    return {"type": "function", "function": function}


def get_weather(random: Random) -> dict[str, object]:
    """A tool."""
    text = random.choice(("The weather in a city.", "Get the weather of a city", "Current weather"))
    return _tool(random, "get_weather", text, {"city": ("string", "The city")})


def get_time(random: Random) -> dict[str, object]:
    """A tool."""
    text = random.choice(("The time in a city.", "Get the time of a city", "Current time"))
    return _tool(random, "get_time", text, {"city": ("string", "The city")})


def add(random: Random) -> dict[str, object]:
    """A tool."""
    text = random.choice(("Add two numbers.", "The sum of two numbers", "Adds a and b"))
    kind = random.choice(("number", "integer"))
    return _tool(random, "add", text, {"a": (kind, "First number"), "b": (kind, "Second number")})


def set_timer(random: Random) -> dict[str, object]:
    """A tool."""
    text = random.choice(("Set a timer.", "Starts a timer", "Set a timer of some minutes"))
    return _tool(random, "set_timer", text, {"minutes": ("integer", "How long")})


def _other(random: Random) -> dict[str, object]:
    """A tool that no question needs."""
    verb, noun = random.choice(("send", "play", "find", "open", "delete")), random.choice(facts.WORDS)
    keys = random.sample(("text", "to", "title", "count", "path", "query"), random.randint(1, 2))
    return _tool(random, f"{verb}_{noun}", f"{verb} a {noun}.", {key: ("string", key) for key in keys})


TOOLS = (get_weather, get_time, add, set_timer)


def tools(random: Random, *needed: Callable[[Random], dict[str, object]]) -> list[dict[str, object]]:
    """What is needed, and up to two others, in any order."""
    rest = [make for make in (*TOOLS, _other) if make not in needed]
    more = random.choices((0, 1, 2), (6, 3, 1))[0] if needed else 1
    chosen = [*needed, *random.sample(rest, more)]
    random.shuffle(chosen)
    return [make(random) for make in chosen]


WEATHER = (
    "What is the weather in {}?",
    "What's the weather in {}?",
    "What is the weather like in {}?",
    "What's the weather like in {} today?",
    "How is the weather in {}?",
    "Tell me the weather in {}.",
    "Weather in {}?",
    "Is it warm in {}?",
    "How warm is it in {}?",
    "Please check the weather in {}.",
)
WEATHER_CHINESE = (
    "{}天气怎么样？",
    "{}的天气怎么样？",
    "{}今天天气怎么样？",
    "{}天气如何？",
    "请查一下{}的天气。",
    "{}今天热吗？",
    "告诉我{}的天气。",
)
TIME = ("What time is it in {}?", "What is the time in {}?", "Tell me the time in {}.", "How late is it in {}?")
TIME_CHINESE = ("{}现在几点？", "{}几点了？", "{}的时间是多少？", "告诉我{}的时间。")


def _result(random: Random, content: Mapping[str, object]) -> str:
    items = list(content.items())
    if random.random() < 0.15:
        items.reverse()
    return json.dumps(dict(items), separators=(",", ":") if random.random() < 0.15 else None)


def results(contents: Sequence[str]) -> list[Turn]:
    """What the tools answered to the calls of the turn before."""
    return [
        {"role": "tool", "content": content, "tool_call_id": f"call_{place}"} for place, content in enumerate(contents)
    ]


def any_weather(random: Random) -> Conversation:
    """In a place of the corpus or an invented one."""
    chinese = random.random() < 0.4
    return weather(random, city(random, chinese), chinese)


def weather(random: Random, where: str, chinese: bool) -> Conversation:
    """Asked, called, answered, told."""
    degrees, sky = random.randint(-9, 39), random.choice(facts.SKIES)
    content = _result(random, {"temperature": degrees, "sky": sky[0]})
    question = random.choice(WEATHER_CHINESE if chinese else WEATHER).format(where)
    return Conversation(
        [
            user(question),
            calls([("get_weather", {"city": where})], _wants(chinese, where, "weather", "天气", "get_weather")),
            *results([content]),
            answer(_report(chinese, where, degrees, sky), _told(chinese)),
        ],
        tools(random, get_weather),
    )


def _wants(chinese: bool, where: str, what: str, what_chinese: str, tool: str) -> str:
    return (
        f"用户想知道{where}的{what_chinese}。我调用{tool}。"
        if chinese
        else f"The user wants the {what} in {where}. I call {tool}."
    )


def _told(chinese: bool) -> str:
    return "工具有结果了。我告诉用户。" if chinese else "The tool has answered. I tell the user."


def _report(chinese: bool, where: str, degrees: int, sky: tuple[str, str]) -> str:
    return f"{where}现在{degrees}度，{sky[1]}。" if chinese else f"It is {degrees} degrees and {sky[0]} in {where}."


def two_cities(random: Random) -> Conversation:
    """One question, two calls, one answer."""
    chinese = random.random() < 0.4
    cities = [city(random, chinese) for _ in range(2)]
    seen = [(random.randint(-9, 39), random.choice(facts.SKIES)) for _ in cities]
    contents = [_result(random, {"temperature": degrees, "sky": sky[0]}) for degrees, sky in seen]
    reports = [_report(chinese, where, *one) for where, one in zip(cities, seen, strict=True)]
    layouts = (
        ("{}和{}的天气怎么样？", "{}和{}天气怎么样？", "比较{}和{}的天气。")
        if chinese
        else ("What is the weather in {} and {}?", "What is the weather in {} and in {}?", "Weather in {} and {}?")
    )
    both = "和".join(cities) if chinese else " and ".join(cities)
    return Conversation(
        [
            user(random.choice(layouts).format(*cities)),
            calls(
                [("get_weather", {"city": where}) for where in cities],
                _wants(chinese, both, "weather", "天气", "get_weather"),
            ),
            *results(contents),
            answer(("" if chinese else " ").join(reports), _told(chinese)),
        ],
        tools(random, get_weather),
    )


def time(random: Random) -> Conversation:
    """What time it is somewhere."""
    chinese = random.random() < 0.4
    where, now = city(random, chinese), f"{random.randint(0, 23):02}:{random.randint(0, 59):02}"
    question = random.choice(TIME_CHINESE if chinese else TIME).format(where)
    return Conversation(
        [
            user(question),
            calls([("get_time", {"city": where})], _wants(chinese, where, "time", "时间", "get_time")),
            *results([_result(random, {"time": now})]),
            answer(f"{where}现在{now}。" if chinese else f"It is {now} in {where}.", _told(chinese)),
        ],
        tools(random, get_time),
    )


def sum_of_two(random: Random) -> Conversation:
    """The tool adds, not the model."""
    a, b = number(random), number(random)
    layouts = ("What is {} plus {}?", "Add {} and {}.", "What is {} + {}?", "How much is {} plus {}?", "{}加{}是多少？")
    layout = random.choice(layouts)
    chinese = layout.startswith("{}加")
    thought = f"用户要算{a}加{b}。我调用add。" if chinese else f"The user wants {a} plus {b}. I call add."
    content = random.choice((str(a + b), _result(random, {"result": a + b}), _result(random, {"sum": a + b})))
    final = f"{a}加{b}是{a + b}。" if chinese else f"{a} plus {b} is {a + b}."
    return Conversation(
        [
            user(layout.format(a, b)),
            calls([("add", {"a": a, "b": b})], thought),
            *results([content]),
            answer(final, _told(chinese)),
        ],
        tools(random, add),
    )


def timer(random: Random) -> Conversation:
    """A tool that does something and returns nothing."""
    minutes = random.randint(1, 90)
    layouts = (
        "Set a timer for {} minutes.",
        "Set a timer of {} minutes.",
        "Timer, {} minutes!",
        "设一个{}分钟的计时器。",
    )
    layout = random.choice(layouts)
    chinese = layout.startswith("设")
    thought = (
        f"用户要{minutes}分钟的计时器。我调用set_timer。"
        if chinese
        else f"The user wants a timer for {minutes} minutes. I call set_timer."
    )
    content = random.choice(("ok", "done", _result(random, {"ok": True})))
    final = f"计时器设好了，{minutes}分钟。" if chinese else f"The timer is set for {minutes} minutes."
    return Conversation(
        [
            user(layout.format(minutes)),
            calls([("set_timer", {"minutes": minutes})], thought),
            *results([content]),
            answer(final, _told(chinese)),
        ],
        tools(random, set_timer),
    )


def no_tool(random: Random) -> Conversation:
    """What a tool would answer, but it isn't there."""
    chinese = random.random() < 0.4
    layouts = (*WEATHER_CHINESE, *TIME_CHINESE) if chinese else (*WEATHER, *TIME)
    reply = (
        answer("我没有这个工具。", "用户的问题需要工具，我没有。")
        if chinese
        else answer("I have no tool for that.", "The user's question needs a tool that I don't have.")
    )
    others = tools(random, random.choice((add, set_timer, _other))) if random.random() < 0.3 else []
    others = [tool for tool in others if not tool["function"]["name"].startswith("get_")]  # type: ignore[index]
    return Conversation([user(random.choice(layouts).format(city(random, chinese))), reply], others)
