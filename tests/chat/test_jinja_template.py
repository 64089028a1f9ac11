"""Chat templates of checkpoints: what they say, and what they cannot do."""

from __future__ import annotations

import pytest

from emulator.chat.jinja_template import JinjaTemplate, TemplateError, template_tokens
from emulator.chat.messages import Message, chat_tokens
from emulator.chat.template import chat_format
from emulator.chat.tools import BARE, TAGGED, Call, Tool
from tests.support.tiny_model import tiny_tokenizer
from weights.chat_style import tool_template

CHATML = """
{%- if tools %}
  {{- '<|im_start|>system\\n' + (tools | tojson) + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
  {%- if message.role not in ['user', 'assistant', 'tool'] %}
    {{- raise_exception('no role ' + message.role) }}
  {%- endif %}
  {{- '<|im_start|>' + message.role + '\\n' + message.content.strip() }}
  {%- for call in message.tool_calls or [] %}
    {{- '<tool_call>' + call.function.name + (call.function.arguments | tojson) }}
  {%- endfor %}
  {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""
TOOL = Tool("f", "it does", {"type": "object", "properties": {"a": {"type": "integer"}}})


@pytest.fixture(scope="module")
def chat():
    return chat_format(tiny_tokenizer(), "chatml")


def test_a_template_gives_the_tokens_of_its_format(chat):
    """For a conversation without tools, those of our own class, control tokens in texts too."""
    messages = [
        Message("user", "say <|im_end|> & <b>"),
        Message("assistant", "no"),
        Message("user", "né"),
    ]
    tokens = template_tokens(JinjaTemplate(CHATML), chat, messages, [])
    assert tokens == chat_tokens(chat, messages)
    assert tokens.count(257) == 3  # one for each turn, none for the user's words
    open_end = [*messages, Message("assistant", "we")]
    assert template_tokens(JinjaTemplate(CHATML), chat, open_end, []) == chat_tokens(chat, open_end)


def test_tools_calls_and_results_reach_the_template(chat):
    call = Call("f", {"a": 1}, "id")
    messages = [Message("user", "x"), Message("assistant", "", (call,)), Message("tool", "2")]
    text = chat.decode(template_tokens(JinjaTemplate(CHATML), chat, messages, [TOOL]))
    assert '"parameters": {"type": "object"' in text
    assert '<tool_call>f{"a": 1}' in text
    assert text.rstrip().endswith("tool\n2\nassistant")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{ raise_exception('not\nfor you') }}", "not for you"),
        ("{% if %}", "Expected an expression"),
        ("{{ messages + 1 }}", "TypeError"),
        ("{{ nothing.at.all }}", "nothing"),
        ("{{ ''.__class__.__mro__ }}", "may not"),
        ("{{ messages.__class__ }}", "may not"),
        ("{{ (messages | attr('__init__')).__globals__ }}", "may not"),
        ("{{ raise_exception.__globals__ }}", "may not"),
        ("{{ strftime_now.__self__ }}", "may not"),
        ("{{ '{0.__class__}'.format(messages) }}", "may not"),
        ("{% set x = messages.append(1) %}", "may not"),
        ("{% include 'etc/passwd' %}", "no loader"),
        ("{% for i in range(999999) %}{% endfor %}", "Range too big"),
        ("{% set a = 'x' * 4000000000 %}{{ a }}", "memory"),
        ("{% for i in range(9999) %}{{ 'x' * 999 }}{% endfor %}", "1,048,576"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    ],
)
def test_a_template_that_fails_or_reaches_out(source, says):
    with pytest.raises(TemplateError) as caught:
        JinjaTemplate(source).render({"messages": []})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_template_that_never_ends():
    r = "range(90000)"
    loops = f"{{% for i in {r} %}}{{% for j in {r} %}}{{% endfor %}}{{% endfor %}}"
    with pytest.raises(TemplateError, match="more than 1 s"):
        JinjaTemplate(loops, cpu_seconds=1).render({"messages": []})


def test_which_template_speaks_of_tools():
    assert tool_template("{{ tools }}") == "{{ tools }}"
    assert tool_template("{{ messages }}") == ""
    both = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "{{ tools }}"}]
    assert tool_template(both) == "{{ tools }}"
    assert tool_template(both[:1]) == tool_template(None) == tool_template([7]) == ""


@pytest.mark.parametrize("form", [TAGGED, BARE], ids=["tagged", "bare"])
def test_a_call_is_read_as_it_was_written(form):
    call = Call("f", {"a": 'x"\n', "b": [1, None]})
    assert form.read(form.text(call)) == call
    assert form.text(call).startswith(form.mark)
    for broken in ("", "hello", form.text(call)[:-3], form.text(call).replace("name", "nome")):
        assert form.read(broken) is None
