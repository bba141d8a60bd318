"""Data sets: one file each, and the loader for a user's own."""
