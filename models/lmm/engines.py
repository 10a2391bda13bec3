"""Language engines behind one protocol: a prompt goes in, text comes out piece by piece. Importing this loads no transformers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from models.lmm.language import WEIGHTS, plain
from models.lmm.prompt import Prompt

Wants = Literal["words", "sight", "pictures"]
"""What an engine takes beside the question: the evidence in plain words, facts and a sight, or plain words and pictures."""


ViewListener = Callable[[float], None]
"""Hears how likely an engine with a sight takes a defect to be."""


class Engine(Protocol):
    """A language model. One call at a time; closing the iterator stops the generation."""

    @property
    def wants(self) -> Wants: ...
    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str:
        """Digest of the weights, lower-case hex."""
        ...

    def generate(self, prompt: Prompt, *, max_tokens: int = 64) -> Generator[str, None, None]:
        """Yield the reply in pieces; their concatenation is the whole reply.

        One that wants a sight takes `view` too: a function that hears, before the first piece, how likely the engine itself
        takes a defect to be, 0 to 1.
        """
        ...


@runtime_checkable
class Chooser(Engine, Protocol):
    """A language model that can also say how likely a given reply is."""

    def likelihood(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        """For each option, the higher the likelier it is as the reply; comparable between options of any length."""
        ...


class PlainEngine:
    """SmolLM2-135M-Instruct in float32 on one thread: greedy, with the key-value cache kept between prompts that begin alike.

    Raises the catalogue's `WeightsMissing` when the weights were never pulled.
    """

    name = WEIGHTS
    wants: Wants = "words"

    def __init__(self, progress: Callable[[str], None] | None = None) -> None:
        import torch

        from models.lmm.language import Language

        language = self._language = Language(progress)
        torch.set_num_threads(1)
        self._torch = torch
        self.sha256 = language.sha256
        self._tokenizer, self._model, self._ends = language.tokenizer, language.model, language.ends
        self._cache: Any = None
        self._cached: list[int] = []
        self.view: float | None = None
        """How likely a defect is by its own view of the prompt that `tokens` last read."""

    def tokens(self, prompt: Prompt) -> list[int]:
        """Token ids of the chat-formatted prompt, ending where the reply begins. Control tokens inside the texts are defused."""
        turns = [
            {"role": "system", "content": plain(prompt.system)},
            {"role": "user", "content": f"{plain(prompt.context)}\n\nQuestion: {plain(prompt.question)}"},
        ]
        text = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def generate(self, prompt: Prompt, *, max_tokens: int = 64, view: ViewListener | None = None) -> Generator[str, None, None]:
        """Greedy decoding. The part of the prompt shared with the last one is not computed again. A draft's tokens are looked at
        in one pass, and those that greedy decoding gives stay (arXiv 2211.17192, section 2, texts in the draft model's place).
        """
        ids = self.tokens(prompt)
        if view is not None and self.view is not None:
            view(self.view)
        shared = self._rewind(ids)
        drafts = [[*self._language.ids(plain(one)), self._language.end] for one in prompt.drafts]
        pending, made, said = ids[shared:], list[int](), ""
        while len(made) < max_tokens:
            guess = next((one[len(made) :] for one in drafts if one[: len(made)] == made), [])[: max_tokens - len(made) - 1]
            best = self._read(pending + guess, len(guess) + 1).argmax(-1).tolist()
            right = next((n for n, token in enumerate(guess) if token != best[n]), len(guess))
            self._cut(len(guess) - right)
            for token in best[: right + 1]:
                if token in self._ends:
                    return
                made.append(token)
                text = self._tokenizer.decode(made)
                if not text.endswith("\ufffd"):  # half a character: wait for its other bytes
                    if len(text) > len(said):
                        yield text[len(said) :]
                    said = text
            pending = [made[-1]]

    def _embedded(self, ids: list[int]) -> Any:
        """`[T]` → `[1, T, 576]`."""
        return self._language.embedded(ids)[None]

    def likelihood(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        """Mean log-probability of a token of each option as the whole reply, its end included."""
        torch = self._torch
        ids, end, found = self.tokens(prompt), self._tokenizer.convert_tokens_to_ids("<|im_end|>"), []
        for option in options:
            reply = [*self._tokenizer(plain(option), add_special_tokens=False)["input_ids"], end]
            shared = self._rewind(ids)
            pending = ids[shared:] + reply[:-1]
            logs = torch.log_softmax(self._read(pending, len(reply)), -1)
            found.append(float(logs[torch.arange(len(reply)), torch.tensor(reply)].mean()))
        return found

    def _rewind(self, ids: list[int]) -> int:
        """Cut the cache back to what it shares with `ids`; how many tokens that is (at least one is left to compute)."""
        shared = 0
        while shared < min(len(ids) - 1, len(self._cached)) and ids[shared] == self._cached[shared]:
            shared += 1
        if self._cache is None or shared == 0:
            self._cache, self._cached = None, []
            return 0
        self._cut(len(self._cached) - shared)
        return shared

    def _read(self, ids: list[int], last: int) -> Any:
        """Logits `[last, V]` after each of the last tokens; the cache then holds all of them."""
        with self._torch.inference_mode():
            out = self._model(
                inputs_embeds=self._embedded(ids), past_key_values=self._cache, use_cache=True, logits_to_keep=last
            )  # [1, T, 576] → logits [1, last, V]
        self._cache = out.past_key_values
        self._cached += ids
        return out.logits[0]

    def _cut(self, count: int) -> None:
        """Forget the last `count` tokens of the cache."""
        if count:
            self._cache.crop(-count)
            del self._cached[-count:]
