"""Items to semantic IDs, and the trie of them that keeps a search on items that exist."""

from redraft.tokenizer.collisions import resolve_collisions
from redraft.tokenizer.semantic_ids import load_semantic_ids, read_published, save_semantic_ids
from redraft.tokenizer.trie import Trie

__all__ = ["Trie", "load_semantic_ids", "read_published", "resolve_collisions", "save_semantic_ids"]
