"""``python -m nas`` is the command ``nas``."""

from __future__ import annotations

import sys
from pathlib import Path

# `python -m` searches the working folder first, where a user's predictors.py or dashboard/ would stand in for ours.
if not sys.flags.safe_path and sys.path[0] != str(Path(__file__).resolve().parents[1]):
    del sys.path[0]

from nas.cli.app import main

if __name__ == "__main__":
    main()
