"""Weights from the Hugging Face hub, by repository name: taken at one revision, its digest kept from then on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from models.catalog.errors import DigestMismatch, PullFailed
from models.catalog.files import TENSORS, file_sha256, tensors_sha256

ORIGIN = "origin.json"
SECONDS = 5
"""How long an unreachable hub may take to say so."""


def fetch(repository: str, made: Path, progress: Callable[[str, int, int], None]) -> None:
    """Download `model.safetensors` of a repository into the folder `made`, and write down where it came from.

    The endpoint, token and offline mode are the user's own `HF_…` settings. Raises DigestMismatch, PullFailed.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read at its import; `progress` is ours
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        found = api.model_info(repository, files_metadata=True, timeout=SECONDS)
        sizes = {file.rfilename: file for file in found.siblings or []}
        if TENSORS not in sizes:
            raise PullFailed(f"{repository} on the hub has no {TENSORS}; other formats are not read.", name=repository)
        size = sizes[TENSORS].size or 0
        progress(repository, 0, size)
        api.hf_hub_download(repository, TENSORS, revision=found.sha, local_dir=made, etag_timeout=SECONDS)
        progress(repository, size, size)
    except PullFailed:
        raise
    except Exception as error:  # requests' or httpx's or its own, by version
        raise PullFailed(
            f"{repository} could not be fetched from {api.endpoint}: {(str(error) or repr(error)).splitlines()[0]}. "
            "Use a backbone of the catalogue (`kensor weights list`), or set HF_ENDPOINT to a mirror that this machine reaches.",
            name=repository,
            endpoint=api.endpoint,
        ) from error
    lfs = sizes[TENSORS].lfs
    if lfs and file_sha256(made / TENSORS) != lfs.sha256:
        raise DigestMismatch(
            f"{TENSORS} of {repository} does not have the digest the hub states; it was refused.", name=repository
        )
    licence = str(getattr(found.card_data, "license", None) or "unknown")
    origin = {"revision": found.sha, "licence": licence, "bytes": size, "sha256": tensors_sha256(made / TENSORS)}
    (made / ORIGIN).write_text(json.dumps(origin))
