"""Any image-text-to-text model in the hub's format, through transformers' own classes: safetensors only, none of its code."""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from models import catalog
from models.catalog import files
from models.lmm.engines import Wants
from models.lmm.errors import EngineError
from models.lmm.prompt import Prompt

CONFIG = "config.json"


class TransformersEngine:
    """A vision-language model of somebody else, decoded greedily.

    model: a local folder, or a hub name that is in the hub's cache. device: `cpu` (float32), or as torch names it (bfloat16).
    download: a hub name may be fetched. `sha256` is the digest of all its safetensors files. Raises the catalogue's
    `WeightsMissing`, `EngineError` (`weights_unusable`).
    """

    wants: Wants = "pictures"

    def __init__(
        self, progress: Callable[[str], None] | None = None, *, model: str, device: str = "cpu", download: bool = False
    ) -> None:
        tell = progress or (lambda stage: None)
        tell("libraries")
        import torch
        import transformers

        self._torch, self._device = torch, device
        path = Path(model).expanduser()
        self.name = path.name
        tell("weights")
        self._folder = _folder(model, download)
        self.sha256 = _digest(self._folder)
        options: dict[str, Any] = {"local_files_only": not download, "trust_remote_code": False}
        source = str(path) if path.is_dir() else model
        tell("processor")
        try:
            self._processor: Any = transformers.AutoProcessor.from_pretrained(source, **options)
            tell("model")
            loaded: Any = transformers.AutoModelForImageTextToText.from_pretrained(
                source, use_safetensors=True, dtype=torch.float32 if device == "cpu" else torch.bfloat16, **options
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            message = f"{self.name} is no image-text-to-text model that can be loaded without code of its own: {reason}"
            raise EngineError(message, "weights_unusable", name=self.name) from error
        self._model = loaded.to(device).eval()
        self._tokenizer: Any = getattr(self._processor, "tokenizer", self._processor)
        added = {str(token): token.special for token in self._tokenizer.added_tokens_decoder.values()}
        marks = {token for token, special in added.items() if special or re.fullmatch(r"<.+>|\[.+\]", token)}
        self._control = sorted((m for m in marks | set(self._tokenizer.all_special_tokens) if len(m.strip()) > 1), key=len)

    def inputs(self, prompt: Prompt) -> Any:
        """Token ids and pixels of the chat-formatted prompt, ending where the reply begins."""
        from jinja2 import TemplateError
        from PIL import Image

        parts: list[dict[str, Any]] = [_text(self._plain(prompt.context))]
        for picture in prompt.pictures:
            pixels = Image.open(io.BytesIO(picture.data), formats=("PNG", "JPEG")).convert("RGB")
            parts += [_text(self._plain(f"Picture: {picture.label}.")), {"type": "image", "image": pixels}]
        parts.append(_text(self._plain(f"Question: {prompt.question}")))
        system = _text(self._plain(prompt.system))
        turns = [{"role": "system", "content": [system]}, {"role": "user", "content": parts}]
        try:
            return self._templated(turns)
        except TemplateError:  # a template that knows no system role
            return self._templated([{"role": "user", "content": [system, *parts]}])

    def generate(self, prompt: Prompt, *, max_tokens: int = 64) -> Generator[str, None, None]:
        """Greedy decoding; closing the iterator ends it after the token at hand."""
        from transformers import StoppingCriteriaList, TextIteratorStreamer

        torch, stop, failures = self._torch, threading.Event(), list[BaseException]()
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        given = self.inputs(prompt)

        def stopped(ids: Any, scores: Any, **more: Any) -> Any:
            return torch.full((ids.shape[0],), stop.is_set(), dtype=torch.bool, device=ids.device)

        def work() -> None:
            try:
                with torch.inference_mode():
                    self._model.generate(
                        **given,
                        max_new_tokens=max_tokens,
                        do_sample=False,
                        num_beams=1,
                        streamer=streamer,
                        stopping_criteria=StoppingCriteriaList([stopped]),
                    )
            except BaseException as error:
                failures.append(error)
                streamer.on_finalized_text("", stream_end=True)

        worker = threading.Thread(target=work, name="transformers-generate", daemon=True)
        worker.start()
        try:
            yield from filter(None, streamer)
        finally:
            stop.set()
            worker.join()
        if failures:
            raise failures[0]

    def _templated(self, turns: list[dict[str, Any]]) -> Any:
        return self._processor.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ).to(self._device, dtype=self._model.dtype)

    def _plain(self, text: str) -> str:
        """The text with this model's control tokens broken, so that none ends a turn or stands for a picture."""
        for token in reversed(self._control):
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _folder(model: str, download: bool) -> Path:
    """The folder that holds the model's files, fetched first where that is allowed."""
    from transformers.utils import cached_file

    path = Path(model).expanduser()
    try:
        found = path if path.is_dir() else Path(cached_file(model, CONFIG, local_files_only=not download)).parent
    except (OSError, ValueError, TypeError) as error:
        way = "Name a folder that holds it" + ("." if download else ", or allow the download (KENSOR_TRANSFORMERS_DOWNLOAD).")
        raise catalog.WeightsMissing(f"The model {model} is not on this machine. {way}", name=path.name) from error
    return found


def _digest(folder: Path) -> str:
    """Of the names and digests of all safetensors files. Raises WeightsMissing where there is none."""
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise catalog.WeightsMissing(f"{folder.name} holds no .safetensors file; other formats are not read.", name=folder.name)
    total = hashlib.sha256()
    for shard in shards:
        total.update(f"{shard.name} {files.file_sha256(shard)}\n".encode())
    return total.hexdigest()
