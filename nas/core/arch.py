"""An architecture is a value: a frozen mapping of choice name to option, known by a hash of its canonical JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType

Option = int | float | str
KEY_LENGTH = 16  # hexadecimal digits: 64 bits; a clash among a million architectures has a chance of 3e-8


class ArchConfig(Mapping[str, Option]):
    """A canonical architecture: only its active choices, in sorted order.

    Make one with `SearchSpace.arch`, which validates; the constructor takes picks that are already canonical,
    such as those read back from a store.

    Attributes:
        key: First 16 hexadecimal digits of the SHA-256 of the canonical JSON. The identity of the architecture in
            caches, in SQL, in predictors, in a front and in the file name of an export.
    """

    __slots__ = ("_picks", "key")
    _picks: Mapping[str, Option]
    key: str

    def __init__(self, picks: Mapping[str, Option]) -> None:
        ordered = {name: picks[name] for name in sorted(picks)}
        object.__setattr__(self, "_picks", MappingProxyType(ordered))
        object.__setattr__(self, "key", hashlib.sha256(self.to_json().encode()).hexdigest()[:KEY_LENGTH])

    def to_json(self) -> str:
        """Return the canonical JSON: sorted names, no spaces."""
        return json.dumps(dict(self._picks), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ArchConfig:
        """Return the architecture whose canonical JSON is `text`."""
        return cls(json.loads(text))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an architecture is frozen: {name} cannot be set; make another with SearchSpace.arch")

    def __getitem__(self, name: str) -> Option:
        return self._picks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._picks)

    def __len__(self) -> int:
        return len(self._picks)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArchConfig) and self.key == other.key

    def __repr__(self) -> str:
        return f"ArchConfig({self.key}: {', '.join(f'{k}={v}' for k, v in self._picks.items())})"

    def __reduce__(self) -> tuple[type[ArchConfig], tuple[dict[str, Option]]]:
        return ArchConfig, (dict(self._picks),)
