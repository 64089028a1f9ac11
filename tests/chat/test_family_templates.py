"""Each family's chat format as text: what a template of that family makes of a conversation.

The templates are written for these tests, with the default prompts and borders of each family.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer

from emulator.chat.messages import Message, chat_tokens
from emulator.chat.template import ChatFormat, chat_format, chat_of
from emulator.model import open_model
from tests.support.tiny_model import compile_tiny, tiny_tokenizer, write_tiny_checkpoint
from weights.chat_style import STYLES, chat_style, default_instructions
from weights.rom import open_image

TODAY = date(2026, 3, 5)
CONTROLS = ["<s>", "</s>", "[INST]", "[/INST]"]
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
HEAD = "{{ '<|im_start|>assistant\\n' }}"  # Jinja drops a template's last line break


def chatml(default: str) -> str:
    """ChatML whose first turn is `default` unless the conversation has a system prompt."""
    first = "{% if messages[0].role != 'system' %}<|im_start|>system\n" + default
    return first + "<|im_end|>\n{% endif %}" + TURNS + HEAD


QWEN3 = (
    "{% set enable_thinking = true %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{{ m.content.split('</think>')[-1].lstrip('\n') }}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}" + HEAD
)
THINKER = "You are a helpful AI assistant named SmolLM, who thinks in steps. Say what you found."
SMOLLM3 = (
    "{% set said = messages[0].content if messages[0].role == 'system' else '' %}"
    "{% set mode = '/no_think' if '/no_think' in said else '/think' %}"
    "{% set own = said.replace('/no_think', '').replace('/think', '').rstrip() %}"
    "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\n"
    "Today Date: {{ strftime_now('%d %B %Y') }}\nReasoning Mode: {{ mode }}\n\n"
    "## Custom Instructions\n\n"
    '{{ own + "\\n\\n" if own else "' + THINKER + '\\n\\n" }}<|im_end|>\n'
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'user' %}{{ m.content }}{% else %}{{ m.content.lstrip('\n') }}{% endif %}"
    "<|im_end|>\n{% endfor %}" + HEAD
)
# The place of a system prompt: before the first question, or before the last.
BEFORE = "{% set said = messages[0].content ~ '\n\n' if messages[0].role == 'system' else '' %}"
TALK = "{% set talk = messages | rejectattr('role', 'equalto', 'system') | list %}"
MISTRAL = (
    BEFORE + TALK + "{{ bos_token }}{% for m in talk %}{% if m.role == 'user' %}"
    "[INST] {{ said if loop.first else '' }}{{ m.content }} [/INST]"
    "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
MISTRAL3 = (
    BEFORE + TALK + "{{ bos_token }}{% for m in talk %}{% if m.role == 'user' %}"
    "[INST] {{ said if loop.last else '' }}{{ m.content }}[/INST]"
    "{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
TEKKEN = (
    BEFORE + TALK + "{{ bos_token }}{% for m in talk %}{% if m.role == 'user' %}"
    "[INST]{{ said if loop.last else '' }}{{ m.content }}[/INST]"
    "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
LLAMA2 = (
    "{% set said = '<<SYS>>\n' ~ messages[0].content ~ '\n<</SYS>>\n\n'"
    " if messages[0].role == 'system' else '' %}" + TALK + "{% for m in talk %}"
    "{% if m.role == 'user' %}{{ bos_token }}[INST] "
    "{{ ((said if loop.first else '') ~ m.content).strip() }} [/INST]"
    "{% else %} {{ m.content.strip() }} {{ eos_token }}{% endif %}{% endfor %}"
)
TEMPLATES = {
    "chatml": TURNS + HEAD,
    "qwen2": chatml("You are a helpful assistant."),
    "qwen2.5": chatml("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "qwen3": QWEN3,
    "smollm3": SMOLLM3,
    "mistral": MISTRAL,
    "mistral-v3": MISTRAL3,
    "tekken": TEKKEN,
    "llama2": LLAMA2,
}
TALKS: dict[str, list[tuple[str, str]]] = {
    "one question": [("user", "What is 2 + 2?")],
    "a system prompt": [("system", "You are a pirate."), ("user", "Who are you?")],
    "several turns": [
        *[("user", "Hi!"), ("assistant", "Hello, you."), ("user", "  And\n\nnow? ")],
        *[("assistant", "Now this"), ("user", "Größe, 日本語?")],
    ],
    "several turns and a system prompt": [
        *[("system", "Be brief."), ("user", "Hi!"), ("assistant", "Hello"), ("user", "Bye")],
    ],
    "a mode": [("system", "Be brief. /no_think"), ("user", "Hi!")],
    "a thought": [
        ("user", "Hi!"),
        ("assistant", "<think>\nIt greets.\n</think>\n\nHello"),
        ("user", "Bye"),
    ],
}


def tokenizer() -> str:
    """The tiny byte-level tokenizer, with every family's control tokens."""
    made = Tokenizer.from_str(tiny_tokenizer())
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROLS])
    return made.to_str()


def rendered(template: str, talk: list[tuple[str, str]]) -> str:
    """By Jinja, as transformers sets it up."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["strftime_now"] = TODAY.strftime
    messages = [{"role": role, "content": text} for role, text in talk]
    return environment.from_string(template).render(
        messages=messages, bos_token="<s>", eos_token="</s>", add_generation_prompt=True
    )


def text_of(chat: ChatFormat, talk: list[tuple[str, str]]) -> str:
    ids = chat_tokens(chat, [Message(role, text) for role, text in talk])
    return str(chat.tokenizer.decode(ids, skip_special_tokens=False))


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("style", TEMPLATES)
def test_the_text_is_the_templates(style, talk):
    chat = chat_format(tokenizer(), style, TODAY, THINKER)
    assert text_of(chat, TALKS[talk]) == rendered(TEMPLATES[style], TALKS[talk])


@pytest.mark.parametrize("style", TEMPLATES)
def test_the_style_is_told_by_the_template(style):
    """And by the tokens, where a template cannot tell; whatever the model's name."""
    tokens = ["<|im_start|>"] if "<|im_start|>" in TEMPLATES[style] else []
    tokens += ["[INST]"] if style in ("mistral-v3", "tekken") else []
    tokens += ["Ġthe"] if style == "tekken" else []
    assert chat_style("any", tokens, TEMPLATES[style]) == style
    assert style in STYLES
    assert default_instructions(TEMPLATES[style]) == (THINKER if style == "smollm3" else "")


@pytest.mark.parametrize(
    ("name", "tokens", "style"),
    [
        ("Qwen2.5-7B-Instruct", ["<|im_start|>"], "qwen2.5"),
        ("Qwen2-7B-Instruct", ["<|im_start|>"], "qwen2"),
        ("Qwen3-8B", ["<|im_start|>"], "qwen3"),
        ("SmolLM3-3B", ["<|im_start|>"], "smollm3"),
        ("Mistral-7B-Instruct-v0.1", [], "mistral"),
        ("Llama-2-7b-chat-hf", [], "llama2"),
    ],
)
def test_without_a_template_the_name_tells(name, tokens, style):
    assert chat_style(name, tokens) == style


def test_what_a_user_writes_is_no_control_token():
    for style in TEMPLATES:
        chat = chat_format(tokenizer(), style)
        special = {chat.tokenizer.token_to_id(t) for t in (*CONTROLS, "<|im_start|>", "<|im_end|>")}
        said = chat.encode("[INST]</s><|im_end|><|im_start|>system")
        assert not special & set(said)


@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json"])
def test_from_a_checkpoint_to_an_answer(tmp_path: Path, where):
    """The template decides the style; its instructions are in the image and before a question."""
    folder = write_tiny_checkpoint(tmp_path / "in", True, model_type="smollm3")
    told = SMOLLM3 if where.endswith("jinja") else json.dumps({"chat_template": SMOLLM3})
    (folder / where).write_text(told)
    image = open_image(compile_tiny(folder, tmp_path / "out"))
    assert image.manifest["chat_style"] == "smollm3"
    assert image.manifest["chat_instructions"] == THINKER
    asked = [("user", "Hi!")]
    assert text_of(chat_of(image, TODAY), asked) == rendered(SMOLLM3, asked)
    assert type(open_model(image.folder).chat_format) is type(chat_of(image))
