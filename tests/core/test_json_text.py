"""What is written as JSON can be read by any parser, whatever the numbers are."""

from __future__ import annotations

import json
import math

from nas.core.json_text import number, to_json


def test_what_is_no_number_is_null_wherever_it_stands() -> None:
    value = {"a": math.nan, "b": [1.5, -math.inf, {"c": (math.inf, 2)}], "d": "NaN", "e": None, "f": True}
    assert json.loads(to_json(value)) == {"a": None, "b": [1.5, None, {"c": [None, 2]}], "d": "NaN", "e": None, "f": True}
    assert "Infinity" not in to_json(value)
    assert math.isnan(number(None))
    assert number(2) == 2.0
