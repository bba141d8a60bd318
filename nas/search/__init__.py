"""Searchers: ask for architectures, tell what was measured."""
