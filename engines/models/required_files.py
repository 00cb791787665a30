"""What a complete checkpoint has, beside its weights, by architecture."""

from pathlib import Path

from engines.models.model_files import is_whole, read_json, whole_files


def tokenizer(folder: Path) -> list[str]:
    """What is missing of a tokenizer: its own file or its two older ones, and its configuration."""
    older = all(is_whole(folder / name) for name in ("vocab.json", "merges.txt"))
    missing = [] if older or is_whole(folder / "tokenizer.json") else ["tokenizer.json"]
    return missing + ([] if is_whole(folder / "tokenizer_config.json") else ["tokenizer_config.json"])


def chat(folder: Path) -> list[str]:
    return tokenizer(folder) + ([] if _has_template(folder) else ["a chat template"])


def whisper(folder: Path) -> list[str]:
    """Nothing: OpenAI's own vocabularies are at hand."""
    return []


def speech(folder: Path) -> list[str]:
    missing = tokenizer(folder)
    if not is_whole(folder / "speech_tokenizer" / "config.json"):
        missing.append("speech_tokenizer/config.json")
    if not whole_files(folder, "speech_tokenizer/*.safetensors"):
        missing.append("weights of the codec (speech_tokenizer/*.safetensors)")
    return missing


def _has_template(folder: Path) -> bool:
    files = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/default.jinja")
    if any(is_whole(folder / name) for name in files):
        return True
    return bool(read_json(folder / "tokenizer_config.json").get("chat_template"))
