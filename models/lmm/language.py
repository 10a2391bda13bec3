"""The frozen language model: its words as embeddings, and a prompt in the three pieces that training and answering share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from models import catalog
from models.lmm.config import COUNTS, PLACES, SIZES

if TYPE_CHECKING:
    import torch

    from models.lmm.tokenizer import Words

WEIGHTS = "smollm2_135m_instruct"


class Pieces(NamedTuple):
    """Token ids of a prompt: what comes before the sight, after it, and the question up to where the reply begins."""

    head: list[int]
    context: list[int]
    question: list[int]


class Language:
    """SmolLM2-135M-Instruct in float32. Raises the catalogue's `WeightsMissing` when the weights were never pulled."""

    def __init__(self, progress: Callable[[str], None] | None = None) -> None:
        tell = progress or (lambda stage: None)
        tell("weights")
        folder = catalog.locate(WEIGHTS)
        self.sha256 = catalog.entries()[WEIGHTS].sha256
        tell("libraries")
        import torch
        import transformers

        tell("tokenizer")
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        tell("model")
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
        self.model.requires_grad_(False)
        self.end: int = self.tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.ends = {self.tokenizer.eos_token_id, self.end}

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, no special ones added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def pieces(self, system: str, context: str, question: str) -> Pieces:
        """The chat-formatted prompt. Control tokens inside the texts are defused."""
        return Pieces(
            self.ids(f"<|im_start|>system\n{plain(system)}<|im_end|>\n<|im_start|>user\n"),
            self.ids(f"\n{plain(context)}\n"),
            self.ids(f"Question: {plain(question)}<|im_end|>\n<|im_start|>assistant\n"),
        )

    def embedded(self, ids: list[int]) -> torch.Tensor:
        """`[T]` → `[T, 576]`."""
        import torch

        found: torch.Tensor = self.model.model.embed_tokens(torch.tensor(ids, device=self.model.device))
        return found

    def words(self) -> Words:
        """The words that the expert tokenizer mixes, each the mean of its tokens' embeddings."""
        import torch

        from models.lmm.tokenizer import Words

        def of(*words: str) -> torch.Tensor:
            return torch.stack([self.embedded(self.ids(f" {word}")).mean(0) for word in words]).detach()

        return Words(of(*PLACES), of("no", "yes"), of(*SIZES), of(*COUNTS))


def plain(text: str) -> str:
    """Text that cannot open or close a turn."""
    return text.replace("<|", "< |").replace("|>", "| >")
