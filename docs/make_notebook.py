"""Write docs/notebook.ipynb: its cells are here, its outputs are what they print when run.

    python docs/make_notebook.py

Needs nbformat, nbclient and ipykernel, of the extra `test`.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

PATH = Path(__file__).with_name("notebook.ipynb")
CELLS = [
    (
        "markdown",
        "# A language model in silicon, from Python\n\n"
        "The small model is compiled on the first run, which takes some minutes; then it opens in\n"
        "a second. Times on the chip are estimates; `docs/timing.md` says what they stand on.",
    ),
    (
        "code",
        "%matplotlib inline\n"
        "import emulator\n\n"
        "model = emulator.open_model()\n"
        'answer = model.chat("What is the capital of France?")\n'
        "print(answer.text)\n"
        "print(answer.logits_sha256)",
    ),
    (
        "markdown",
        "The hash is over the logits that each token was picked from: it is the same on every\n"
        "host. Where did the chip's time go, by block?",
    ),
    ("code", "answer.plot()"),
    ("markdown", "An answer comes in pieces, too, and a conversation is a list of messages."),
    (
        "code",
        "messages = [\n"
        '    {"role": "user", "content": "What is the capital of France?"},\n'
        '    {"role": "assistant", "content": answer.text},\n'
        '    {"role": "user", "content": "What is it famous for?"},\n'
        "]\n"
        "for piece in model.stream(messages, max_tokens=40):\n"
        '    print(piece, end="")',
    ),
    (
        "markdown",
        "Llama 3.1 8B on the same chip needs no weights for its time, since time depends on\n"
        "shapes and positions alone.",
    ),
    ("code", 'emulator.cycles("llama-3.1-8b", context=1024)'),
    ("markdown", "What if the fabric took more inputs a cycle?"),
    (
        "code",
        "spec = emulator.load_spec()\n"
        "for lanes in (8, 16, 32, 64):\n"
        '    faster = spec.with_value("fabric.lanes", lanes)\n'
        '    rate = emulator.cycles("llama-3.1-8b", chip=faster).tokens_per_second\n'
        '    print(f"{lanes:>3} lanes: {rate:>9,.0f} tok/s (estimate)")',
    ),
]


def main() -> None:
    """Run the cells and write the notebook with what they showed."""
    notebook = nbformat.v4.new_notebook()
    makers = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    for number, (kind, source) in enumerate(CELLS):
        cell = makers[kind](source)
        cell["id"] = f"cell-{number}"  # a new one each time would change the file for nothing
        notebook.cells.append(cell)
    NotebookClient(notebook, timeout=600, kernel_name="python3", coalesce_streams=True).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of this run
        if cell.cell_type == "code":  # progress bars and warnings
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, PATH)


if __name__ == "__main__":
    main()
