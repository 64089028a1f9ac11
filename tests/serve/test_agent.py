"""An agent of langchain on the small model: it calls a tool, and its answer uses the result."""

from __future__ import annotations

import pytest

from emulator.images.recipe import embedded_folder
from tests.support.serve_process import serving

QUESTION = "How many degrees is it in Bern today?"


@pytest.fixture(scope="module")
def server(default_home):
    with serving(default_home / embedded_folder().name, "--context", "1024") as server:
        yield server


def test_an_agent_calls_a_tool_and_uses_its_result(server):
    langchain_openai = pytest.importorskip("langchain_openai")
    agents = pytest.importorskip("langchain.agents")
    from langchain.agents.middleware import wrap_model_call
    from langchain_core.messages import ToolMessage
    from langchain_core.tools import tool

    asked = []

    @tool
    def temperature(city: str) -> str:
        """The temperature in a city today."""
        asked.append(city)
        return f"It is 17 degrees in {city} today."

    @wrap_model_call
    def first_call_then_answer(request, handler):
        """The grammar makes the first turn a call, and keeps the second from being one."""
        answered = any(isinstance(message, ToolMessage) for message in request.messages)
        return handler(request.override(tool_choice="none" if answered else "required"))

    name = server.get("/v1/models").json()["data"][0]["id"]
    model = langchain_openai.ChatOpenAI(
        model=name, base_url=f"{server.url}/v1", api_key="any", max_retries=0, max_tokens=60
    )
    agent = agents.create_agent(model, [temperature], middleware=[first_call_then_answer])
    done = agent.invoke({"messages": [{"role": "user", "content": QUESTION}]})
    kinds = [message.type for message in done["messages"]]
    assert kinds == ["human", "ai", "tool", "ai"]
    assert asked == [done["messages"][1].tool_calls[0]["args"]["city"]]
    assert "17" in done["messages"][-1].content
