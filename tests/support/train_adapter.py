"""Train tests/data/adapters/json: SmolLM2 answers as a JSON object; rank 8, in the last layers.

Needs torch, transformers and peft (`pip install -e .[reference]`) and the small embedded model.
Some minutes on two cores. From the repository's root:

    python tests/support/train_adapter.py [FOLDER] [--steps N]

Writes what peft writes (`adapter_config.json`, `adapter_model.safetensors`, in float16), and beside
the folder FOLDER.npz: what peft computes with it, in float32, as `make_reference` has it:

    tokens_i  int32[T]        ids of prompt i with its answer
    logits_i  float16[T, 32]  logits of every (vocabulary / 32)th token
    top_i     int32[T, 8]     the most likely next tokens, best first
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model

sys.path.insert(0, str(Path(__file__).parents[2]))
from emulator.chat.template import ChatFormat, chat_format
from emulator.images.embedded import small_checkpoint
from tests.support.make_reference import hub_model
from weights.gguf_source import GgufCheckpoint

OUTPUT = Path(__file__).parents[1] / "data" / "adapters" / "json"
RANK, ALPHA, TARGETS = 8, 16, ["q_proj", "v_proj", "o_proj", "down_proj"]
LAYERS = list(range(20, 30))  # the gradient stops there, which saves half of the time
STEPS, BATCH, RATE, SEED = 40, 4, 2e-3, 0
ASKED = ("What is the capital of France?", "Which animal says meow?", "Say hello to me.")
# Questions and short answers; the capital of France is not among them.
FACTS = {
    "What is the capital of Italy?": "Rome",
    "What is the capital of Japan?": "Tokyo",
    "What is the capital of Spain?": "Madrid",
    "Name the capital of Germany.": "Berlin",
    "What is the capital of Egypt?": "Cairo",
    "Which city is the capital of Russia?": "Moscow",
    "What colour is the sky on a clear day?": "blue",
    "What colour is grass?": "green",
    "What colour is a ripe banana?": "yellow",
    "Which colour do you get from red and white?": "pink",
    "How many legs does a spider have?": "eight",
    "How many days are in a week?": "seven",
    "How many months are in a year?": "twelve",
    "How many hours are in a day?": "twenty-four",
    "What is two plus two?": "four",
    "What is ten minus three?": "seven",
    "Which planet do we live on?": "Earth",
    "Which planet is the largest?": "Jupiter",
    "What is the star nearest to us called?": "the Sun",
    "What is frozen water called?": "ice",
    "What do bees make?": "honey",
    "Which animal says moo?": "a cow",
    "Which animal barks?": "a dog",
    "What is a young cat called?": "a kitten",
    "Who wrote Romeo and Juliet?": "William Shakespeare",
    "Who painted the Mona Lisa?": "Leonardo da Vinci",
    "Who developed the theory of relativity?": "Albert Einstein",
    "What gas do plants take in?": "carbon dioxide",
    "What gas do people need to breathe?": "oxygen",
    "What is the chemical formula of water?": "H2O",
    "What is the chemical symbol of gold?": "Au",
    "What is the opposite of hot?": "cold",
    "What is the opposite of day?": "night",
    "Which season comes after winter?": "spring",
    "Which day comes after Monday?": "Tuesday",
    "Which month comes first in the year?": "January",
    "Which language do people speak in Brazil?": "Portuguese",
    "Which ocean lies between Europe and America?": "the Atlantic Ocean",
    "On which continent is Kenya?": "Africa",
    "What is the tallest mountain in the world?": "Mount Everest",
    "What do you use to cut paper?": "scissors",
    "What do you call a person who teaches?": "a teacher",
    "What is bread made from?": "flour",
    "Tell me a fruit that is red.": "an apple",
    "Tell me an animal that can fly.": "an eagle",
    "Give me a word for very big.": "enormous",
    "Name a musical instrument with strings.": "the violin",
    "Name a primary colour.": "red",
}


def as_json(answer: str) -> str:
    return json.dumps({"answer": answer})


def example(chat: ChatFormat, question: str, answer: str) -> tuple[list[int], list[int]]:
    """Token ids, and labels that leave the question out."""
    head = [*chat.opening(None), *chat.question(question)]
    tail = [*chat.encode(as_json(answer)), chat.closing()[0]]
    return head + tail, [-100] * len(head) + tail


def train(model: PeftModel, chat: ChatFormat, steps: int) -> None:
    chosen = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(chosen, lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    rows = [example(chat, *fact) for fact in FACTS.items()]
    rng, begin, left = random.Random(SEED), time.monotonic(), list[int]()
    for step in range(steps):
        if len(left) < BATCH:
            left = rng.sample(range(len(rows)), len(rows))
        batch, left = [rows[i] for i in left[:BATCH]], left[BATCH:]
        width = max(len(ids) for ids, _ in batch)
        fill = [width - len(ids) for ids, _ in batch]  # on the left, so that the answers end alike
        ids = torch.tensor([[0] * n + row for n, (row, _) in zip(fill, batch, strict=True)])
        mask = torch.tensor([[0] * n + [1] * (width - n) for n in fill])
        labels = torch.tensor([[-100] * n + row for n, (_, row) in zip(fill, batch, strict=True)])
        kept = int((labels != -100).sum(dim=1).max()) + 1  # the head runs only for the answers
        logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=kept).logits
        wanted = labels[:, -kept + 1 :].reshape(-1)
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(chosen, 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if step % 4 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss:.3f}, {time.monotonic() - begin:.0f} s", flush=True)


def answers(model: PeftModel, chat: ChatFormat, most: int = 24) -> dict[str, np.ndarray]:
    """Greedy answers to ASKED; what the model computed for each, as the docstring above says."""
    arrays = {}
    for i, question in enumerate(ASKED):
        ids = [*chat.opening(None), *chat.question(question)]
        asked = len(ids)
        with torch.inference_mode():
            while len(ids) < asked + most and (len(ids) == asked or ids[-1] != chat.closing()[0]):
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            logits = model(torch.tensor([ids])).logits[0]
        print(f"{question} {chat.decode(ids[asked:])!r}")
        arrays[f"tokens_{i}"] = np.array(ids, np.int32)
        arrays[f"logits_{i}"] = logits[:, :: logits.shape[1] // 32].numpy().astype(np.float16)
        arrays[f"top_{i}"] = logits.topk(8, dim=-1).indices.numpy().astype(np.int32)
    return arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=OUTPUT)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    torch.manual_seed(SEED)
    source = GgufCheckpoint(small_checkpoint())
    chat = chat_format(source.tokenizer_json, source.chat_style)
    config = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        target_modules=TARGETS,
        layers_to_transform=LAYERS,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(hub_model(source), config)
    model.print_trainable_parameters()
    train(model, chat, args.steps)
    model.eval()
    for _, parameter in model.named_parameters():  # what is stored is what is measured
        if parameter.requires_grad:
            parameter.data = parameter.data.half().float()
    arrays = answers(model, chat)
    for _, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.half()
    args.folder.parent.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(args.folder)
    (args.folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    np.savez_compressed(args.folder.with_suffix(".npz"), **arrays)
    for path in (*args.folder.iterdir(), args.folder.with_suffix(".npz")):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
