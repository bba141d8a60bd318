"""300 malformed job files give 300 clear messages: one line, exit code 2, no traceback, nothing left in a store."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from nas.cli.app import app
from nas.service.jobfile import read_job

LINES = """\
name: rooms
seed: 3
executor: ray
data:
  name: scenes
  val_fraction: 0.2
  options:
    size: 32
tasks:
  - name: seg
    weight: 1.5
  - depth
devices:
  - local
space:
  name: slimmable
training:
  epochs: 3
  batch_size: 16
  learning_rate: 0.002
  weight_decay: 0.01
  subnets: 4
  distillation: 1.0
  balancing: equal
  workers: 1
  augment: true
  twins: false
  twin_epochs: 2
search:
  sampler: random
  evaluations: 20
  batch_size: 4
  profile_samples: 12
  verify: 6
objectives:
  - metric: error.seg
    limit: 0.9
  - error.depth
  - latency_ms@local<=50
""".splitlines()
KEYED = [i for i, line in enumerate(LINES) if re.match(r" *(?:- )?\w+:", line)]
# Kind of value of each key, from the documentation and not from the code under test.
WHOLE = [
    "seed",
    "size",
    "epochs",
    "batch_size",
    "subnets",
    "workers",
    "twin_epochs",
    "evaluations",
    "profile_samples",
    "verify",
]
REAL = ["val_fraction", "weight", "learning_rate", "weight_decay", "distillation", "limit"]
WORDS = ["executor", "balancing", "sampler"]
FLAGS = ["augment", "twins"]
REQUIRED = {"name": (0, 1), "tasks": (8, 12), "objectives": (34, len(LINES)), "an objective": (36, len(LINES))}


def key(line: str) -> str:
    return line.strip().removeprefix("- ").partition(":")[0]


def having(names: list[str]) -> list[int]:
    return [i for i in KEYED if key(LINES[i]) in names]


Case = tuple[bytes, int | None]  # the file, and the line that the message has to name (None: any, or none)


def changed(line: int, text: str) -> Case:
    return "\n".join([*LINES[:line], text, *LINES[line + 1 :]]).encode("utf-8", "surrogatepass"), line + 1


def set_value(line: int, value: str) -> Case:
    return changed(line, LINES[line].partition(":")[0] + ": " + value)


def flattened(section: str, value: str) -> Case:
    """Replace a section, with all the lines under it, by one value."""
    start = LINES.index(f"{section}:")
    end = next(i for i in range(start + 1, len(LINES)) if not LINES[i].startswith(" "))
    return "\n".join([*LINES[:start], f"{section}: {value}", *LINES[end:]]).encode(), start + 1


word = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)
renamed = st.builds(lambda i, tail: changed(i, LINES[i].replace(":", f"q{tail}:", 1)), st.sampled_from(KEYED), word)
plain_keys = [i for i in KEYED if not LINES[i].lstrip().startswith("-") and not LINES[i].endswith(":")]
doubled = st.sampled_from(plain_keys).map(lambda i: ("\n".join([*LINES[: i + 1], *LINES[i:]]).encode(), i + 2))
mistyped = st.one_of(
    st.builds(
        set_value, st.sampled_from(having(WHOLE)), st.sampled_from(["many", "1.5", "true", "[1]", "{a: 1}", "'3'", ".inf"])
    ),
    st.builds(set_value, st.sampled_from(having(REAL)), st.sampled_from(["much", "false", "[0.1]", "{a: 1}", "'0.1'", ".nan"])),
    st.builds(set_value, st.sampled_from(having(FLAGS)), st.sampled_from(["yes", "on", "1", "maybe", "[]", "null", "'true'"])),
    st.builds(set_value, st.sampled_from(having(WORDS)), st.one_of(word.map(lambda w: f"x{w}"), st.sampled_from(["1", "[]"]))),
    st.builds(set_value, st.sampled_from(having(["name", "metric"])), st.sampled_from(["3", "[]", "{a: b}", "null", "true"])),
    st.builds(
        flattened, st.sampled_from(["data", "space", "training", "search", "tasks"]), st.sampled_from(["3", "[3]", "text"])
    ),
)
out_of_range = st.one_of(
    st.builds(lambda i, v: set_value(i, str(v)), st.sampled_from(having(WHOLE)), st.integers(-(10**30), -1)),
    st.builds(lambda i, v: set_value(i, str(v)), st.sampled_from(having(WHOLE)), st.integers(2**32, 10**40)),
    st.builds(lambda i, v: set_value(i, repr(v)), st.sampled_from(having(REAL)), st.floats(-1e300, -1e-6)),
    st.builds(lambda v: set_value(having(["val_fraction"])[0], repr(v)), st.floats(0.91, 1e300)),
)
unknown = st.builds(
    lambda i, w: changed(i, LINES[i].replace(re.split(r"[\s.@<]", LINES[i].rpartition(": ")[2].lstrip(" -"))[0], f"z{w}", 1)),
    st.sampled_from([4, 9, 11, 13, 15, 35, 37, 38]),
    word,
)
missing = st.sampled_from(sorted(REQUIRED.values())).map(
    lambda part: ("\n".join(LINES[: part[0]] + LINES[part[1] :]).encode(), None)
)
valued = [i for i in KEYED if not LINES[i].endswith(":")]
marks = st.sampled_from(["[", "{", "]", "}", '"', "'", "a: ", "!x ", "*a ", "@", "%", "`"])
broken = st.one_of(
    st.builds(lambda i, mark: (changed(i, LINES[i].replace(": ", f": {mark}", 1))[0], None), st.sampled_from(valued), marks),
    st.builds(lambda i: (changed(i, "\t" + LINES[i])[0], None), st.sampled_from(range(1, len(LINES)))),
    st.builds(
        lambda i, c: changed(i, LINES[i] + c), st.sampled_from(range(len(LINES))), st.sampled_from("\x00\x01\x1b\x7f\ufffe")
    ),
    st.builds(
        lambda i, b: ("\n".join(LINES[:i]).encode() + b"\n" + bytes([b]) + "\n".join(LINES[i:]).encode(), i + 1),
        st.sampled_from(range(1, len(LINES))),
        st.integers(0x80, 0xBF),  # a continuation byte that continues nothing
    ),
)
cut = st.integers(0, len("\n".join(LINES[:34]))).map(lambda n: ("\n".join(LINES).encode()[:n], None))
noise = st.one_of(st.binary(max_size=300), st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass"))).map(
    lambda b: (b, None)
)
malformed = st.one_of(renamed, doubled, mistyped, out_of_range, unknown, missing, broken, cut, noise)

seen: set[bytes] = set()


def test_the_file_that_is_made_malformed_is_valid() -> None:
    assert read_job("\n".join(LINES)).name == "rooms"


@settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(case=malformed)
@example(case=(b"", None))
@example(case=(b"\x80\x04\x95pickle", 1))
@example(case=(b"PK\x03\x04", 1))
def test_a_malformed_file_ends_in_one_clear_message(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, line = case
    monkeypatch.setenv("NAS_HOME", str(tmp_path / "home"))
    file, store = tmp_path / "job.yaml", tmp_path / "store.db"
    file.write_bytes(content)
    result = CliRunner().invoke(app, ["submit", str(file), "--store", str(store)])
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    message = result.stderr
    assert re.fullmatch(r"error: [^\n]{20,1500}\n", message), message
    assert "Traceback" not in message
    assert not any(name in message for name in ("pydantic", "ValidationError", "object at 0x"))
    named = re.match(r"error: line (\d+): ", message)
    if line is not None:
        assert named, message
        assert int(named[1]) == line, message
    elif named:
        assert 1 <= int(named[1]) <= content.count(b"\n") + content.count(b"\r") + 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml"]
    seen.add(content)


def test_the_files_were_many_and_differed() -> None:
    assert len(seen) >= 250
