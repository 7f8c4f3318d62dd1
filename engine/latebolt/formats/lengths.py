"""Finds the lengths that a checkpoint's settings ask for and its encoder cannot take: they are cut."""

from __future__ import annotations

from pathlib import Path

from latebolt.formats.files import read_settings

# Each layout's file and its names for the lengths of queries and documents.
_KEYS = {
    "artifact.metadata": ("query_maxlen", "doc_maxlen"),
    "config_sentence_transformers.json": ("query_length", "document_length"),
    "sentence_bert_config.json": ("query_length", "document_length"),
    "onnx_config.json": ("query_length", "document_length"),
}


def beyond(folder: Path, max_tokens: int) -> tuple[str, ...]:
    """A line for each length in the settings that is more than the encoder takes.

    Args:
        folder: of the checkpoint; its modules may have folders of their own in it.
        max_tokens: most positions the encoder takes.
    """
    lines = []
    for name, keys in _KEYS.items():
        for path in (folder / name, *sorted(folder.glob(f"*/{name}"))):
            settings = read_settings(path)
            for key, kind in zip(keys, ("queries", "documents"), strict=True):
                asked = settings.get(key)
                if isinstance(asked, int) and asked > max_tokens:
                    lines.append(
                        f"{name} asks for {key} = {asked}, but the encoder takes {max_tokens} tokens: longer "
                        f"{kind} are cut there."
                    )
    return tuple(lines)
