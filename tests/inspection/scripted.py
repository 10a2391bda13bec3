"""Language engines of a few lines, for tests."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from models.lmm.prompt import Prompt


class Scripted:
    """Says what a function makes of the prompt; likes the longest option best."""

    sha256 = "0" * 64
    wants = "words"

    def __init__(self, said: Callable[[Prompt], str] = lambda prompt: "There is no defect.", name: str = "scripted") -> None:
        self.said, self.name, self.prompts = said, name, list[Prompt]()

    def generate(self, prompt: Prompt, *, max_tokens: int = 64) -> Generator[str, None, None]:
        self.prompts.append(prompt)
        for word in self.said(prompt).split(" "):
            yield word + " "

    def likelihood(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        self.prompts.append(prompt)
        return [float(len(option)) for option in options]


def silent(progress: object) -> Scripted:
    """A factory as the command line takes it."""
    return Scripted()
