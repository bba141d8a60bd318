"""Random spaces with conditions on conditions, for property tests."""

from __future__ import annotations

import math

from hypothesis import Phase, settings
from hypothesis import strategies as st

from nas.core import Choice, SearchSpace

OPTIONS = (0.25, 0.5, 1, 2, 3.5, "conv", "none", "größer")
quick = settings(deadline=None, max_examples=40, derandomize=True, phases=[Phase.explicit, Phase.generate])


@st.composite
def spaces(draw: st.DrawFn, prefix: str = "c", most_choices: int = 5) -> SearchSpace:
    """Draw a space of one to `most_choices` choices of one to three options, each perhaps under an earlier choice."""
    choices: list[Choice] = []
    for index in range(draw(st.integers(1, most_choices))):
        options = tuple(draw(st.lists(st.sampled_from(OPTIONS), min_size=1, max_size=3, unique=True)))
        condition = None
        if choices and draw(st.booleans()):
            parent = draw(st.sampled_from(choices))
            allowed = draw(st.lists(st.sampled_from(parent.options), min_size=1, unique=True))
            condition = (parent.name, tuple(allowed))
        choices.append(Choice(f"{prefix}{index}", options, condition))
    return SearchSpace(prefix, choices)


def most(space: SearchSpace) -> int:
    """Return the number of architectures there would be without conditions."""
    return math.prod(len(choice.options) for choice in space.choices)
