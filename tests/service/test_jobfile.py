"""A job file becomes a JobSpec, or one error that names the line, the value and the nearest valid one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hw_profiles.devices import job_device, load_device
from nas.core import (
    DataSpec,
    Device,
    InputSpec,
    JobFileError,
    JobSpec,
    Objective,
    SearchSpec,
    SpaceSpec,
    Task,
    TaskSpec,
    TrainingSpec,
    parse_limit,
)
from nas.service.jobfile import load_job, read_job
from nas.service.starter import starter

EXAMPLES = Path(__file__).parents[2] / "examples"
SHORT = """\
name: rooms
tasks: [seg, depth]
objectives:
  - error.seg
  - macs
"""


def failure(text: str) -> JobFileError:
    with pytest.raises(JobFileError) as caught:
        read_job(text)
    assert "\n" not in str(caught.value)
    return caught.value


def test_short_forms_take_the_defaults_of_the_core() -> None:
    objectives = (Objective("error.seg"), Objective("macs"))
    expected = JobSpec("rooms", (TaskSpec("seg"), TaskSpec("depth")), objectives, targets=(load_device("local"),))
    assert read_job(SHORT) == expected


def test_every_key_arrives_where_it_belongs(tmp_path: Path) -> None:
    text = """\
name: rooms
seed: 7
executor: local
tasks: [{name: normals, weight: 2}, seg]
data: {name: scenes, val_fraction: 0.25, options: {images: 64, size: 32}}
space: {name: slimmable, options: {widths: [0.5, 1.0]}}
devices: [local, local-2t]
training: {epochs: 3, batch_size: 16, twins: true, twin_epochs: 2,
  learning_rate: 1e-3, weight_decay: 0, subnets: 3, distillation: 0.5,
  encoder_distillation: 0, balancing: fixed, workers: 2, device: cpu, precision: fp32, augment: false}
search: {sampler: nsga2, evaluations: 40, batch_size: 4, workers: 2, profile_samples: 9, calibration_images: 64, verify: 5,
  screening: 0.25}
objectives: [error.seg<=0.9, miou.seg, "within_11.normals>=20", delta_m, {metric: params},
  {metric: latency_ms@local-2t, limit: 5}]
"""
    file = tmp_path / "jobs" / "rooms.yaml"
    file.parent.mkdir()
    file.write_text(text)
    assert load_job(file) == JobSpec(
        name="rooms",
        seed=7,
        executor="local",
        tasks=(TaskSpec("normals", 2.0), TaskSpec("seg")),
        data=DataSpec("scenes", None, {"images": 64, "size": 32}, 0.25),
        space=SpaceSpec("slimmable", {"widths": [0.5, 1.0]}),
        devices=("local", "local-2t"),
        targets=(load_device("local"), load_device("local-2t")),
        training=TrainingSpec(3, 16, 1e-3, 0.0, 3, 0.5, 0.0, "fixed", 2, "cpu", "fp32", False, True, 2),
        search=SearchSpec("nsga2", 40, 4, 2, 9, 64, 5, 0.25),
        objectives=(
            Objective("error.seg", "min", 0.9),
            Objective("miou.seg", "max"),
            Objective("within_11.normals", "max", 20.0),
            Objective("delta_m", "max"),
            Objective("params", "min"),
            Objective("latency_ms@local-2t", "min", 5.0),
        ),
    )


def test_a_path_is_relative_to_the_job_file_and_refused_where_there_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_files.py").write_text("def read(path): ...\ndef draw(count=3): ...\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    file = tmp_path / "jobs" / "rooms.yaml"
    file.write_text(SHORT + 'data: {name: "python:own_files:read", path: ../files/x.npz}\n')
    assert load_job(file).data.path == str(tmp_path / "files" / "x.npz")
    for name in ("scenes", "digits", "python:own_files:draw"):
        error = failure(SHORT + f'data:\n  name: "{name}"\n  path: x.npz\n')
        assert error.line == 8
        assert "was given" in str(error)
        assert "remove `path`" in str(error)


def test_a_section_whose_lines_are_all_commented_out_is_the_default() -> None:
    assert read_job(SHORT + "training:\n  # epochs: 3\n") == read_job(SHORT)


def test_a_device_may_be_a_file_beside_the_job(tmp_path: Path) -> None:
    (tmp_path / "board.yaml").write_text("description: A board\nthreads: 2\n")
    file = tmp_path / "job.yaml"
    file.write_text(SHORT.replace("- macs", "- latency_ms@board") + "devices: [./board.yaml]\n")
    spec = load_job(file)
    (tmp_path / "board.yaml").unlink()  # the job has the device itself, and its name is that of its metric
    assert spec.devices == ("board",)
    assert job_device(spec, "board") == Device("board", "A board", threads=2)
    assert spec.targets == (Device("board", "A board", threads=2),)


def test_what_a_device_is_cannot_be_written_in_a_job_file() -> None:
    with pytest.raises(JobFileError, match="line 6: a job file has no key 'targets'"):
        read_job(SHORT + "targets: [{name: local, description: mine}]\n")


@pytest.mark.parametrize("name", ["my board", "jetson@home", "a,b", "x<=3", "a/b", "пла та", "x\ty", "-"])
def test_a_device_is_called_what_a_limit_can_name(name: str, tmp_path: Path) -> None:
    allowed = name == "-"
    (tmp_path / "board.yaml").write_text(f"name: {json.dumps(name)}\ndescription: A board\n")
    (tmp_path / "job.yaml").write_text(SHORT + "devices: [board.yaml]\n")
    if allowed:
        assert load_job(tmp_path / "job.yaml").devices == (name,)
        return
    with pytest.raises(JobFileError, match="a device's name is letters, digits"):
        load_job(tmp_path / "job.yaml")


@pytest.mark.parametrize(
    ("old", "new", "line", "parts"),
    [
        ("tasks:", "taks:", 2, ["'taks'", "did you mean 'tasks'?"]),
        ("name: rooms\n", "", 1, ["'name'", "missing"]),
        ("name: rooms", "name: 3", 1, ["name is text", "got 3"]),
        ("name: rooms", "name: ''", 1, ["1 to 100 characters"]),
        ("[seg, depth]", "[seg, dept]", 2, ["'dept'", "did you mean 'depth'?"]),
        ("[seg, depth]", "[seg, seg]", 2, ["named once", "'seg'"]),
        ("[seg, depth]", "[]", 2, ["at least one task"]),
        ("[seg, depth]", "seg", 2, ["tasks is a list", '"seg"']),
        ("[seg, depth]", "[seg, 3]", 2, ["tasks[1]", "got 3"]),
        ("[seg, depth]", "[{name: seg, weight: -1}]", 2, ["tasks[0].weight", "got -1", "nearest valid value is 0"]),
        ("[seg, depth]", "[{nam: seg}]", 2, ["'nam'", "did you mean 'name'?"]),
        ("  - macs\n", "", 3, ["at least two objectives", "got 1"]),
        ("- macs", "- error.seg", 5, ["named once"]),
        ("- macs", "- mac", 5, ["'mac'", "did you mean 'macs'?"]),
        ("- macs", "- error.normals", 5, ["'error.normals'", "error.seg"]),
        ("- macs", "- mou.seg", 5, ["did you mean 'miou.seg'?"]),
        ("- macs", "- latency_ms@pi", 5, ["'pi'", "latency_ms@local"]),
        ("- macs", "- latency_ms", 5, ["names none", "did you mean 'latency_ms@local'?"]),
        ("- macs", "- delta_m", 5, ["twins: true"]),
        ("name: rooms", "name: rooms\ntraining: {reuse: ab12, epochs: 3}", 2, ["training.epochs", "training.reuse"]),
        ("name: rooms", "name: rooms\nsearch: {screening: 1}", 2, ["search.screening", "nearest valid value is 0.99"]),
        ("- macs", "- macs<=lots", 5, ["METRIC<=NUMBER", "macs<=lots"]),
        ("- macs", "- miou.seg<=30", 5, ["maximised", "miou.seg>=NUMBER"]),
        ("- macs", "- {metric: macs, direction: max}", 5, ["minimised", "direction: min"]),
        ("- macs", "- {metric: macs, direction: down}", 5, ['"down"', "Allowed: min, max"]),
        ("- macs", "- {metric: macs, limit: low}", 5, ["objectives[1].limit is a number", '"low"']),
        ("- macs", "- miou.seg>=101", 5, ["miou.seg>=101", "100"]),
        ("- macs", "- latency_ms@local<=-2", 5, ["latency_ms@local<=-2", "nearest value that can be met is 0.001"]),
        ("- error.seg", "- error.seg<=-0.5", 4, ["error.seg<=-0.5", "nearest value that can be met is 0"]),
    ],
)
def test_a_broken_rule_is_said_with_its_line_and_value(old: str, new: str, line: int, parts: list[str]) -> None:
    assert SHORT.count(old) == 1
    error = failure(SHORT.replace(old, new))
    assert error.line == line
    assert [part for part in parts if part not in str(error)] == []


@pytest.mark.parametrize(
    ("added", "line", "parts"),
    [
        ("seed: -1", 6, ["seed", "-1", "nearest valid value is 0"]),
        ("seed: 1.5", 6, ["seed is a whole number", "1.5"]),
        ("seed: true", 6, ["seed is a whole number", "true"]),
        ("seed: .nan", 6, ["seed", ".nan"]),
        ("seed: 1e999", 6, ["seed", "1e999"]),
        ("seed: " + "9" * 5000, 6, ["seed", "9999"]),
        ("seed: 0x" + "f" * 5000, 6, ["seed"]),
        ("executor: rai", 6, ['"rai"', "did you mean 'ray'?"]),
        ("devices: [lcal]", 6, ["devices[0]", "did you mean 'local'?"]),
        ("devices: [gone.yaml]", 6, ["devices[0]", "gone.yaml"]),
        ("devices: []", 6, ["at least one device"]),
        ("devices: [local, local]", 6, ["named once"]),
        ("data:\n  name: scene", 7, ["data.name", "did you mean 'scenes'?"]),
        ("data:\n  val_fraction: 0.95", 7, ["val_fraction", "0.95", "nearest valid value is 0.9"]),
        ("data:\n  options:\n    sizes: 32", 8, ["'sizes'", "did you mean 'size'?"]),
        ("data:\n  options:\n    size: 4", 8, ["size", "got 4", "16"]),
        ("data: {name: 'python:no_such_module:load'}", 6, ["no_such_module"]),
        ("data: {name: nyuv2, path: no_such.npz}", 6, ["data.path", "no_such.npz"]),
        ("space:\n  name: slimable", 7, ["space.name", "did you mean 'slimmable'?"]),
        ("space:\n  options:\n    width: [1.0]", 8, ["'width'", "did you mean 'widths'?"]),
        ("space:\n  options: {widths: [1.0, 0.5]}", 7, ["space.options", "ascend"]),
        ("space:\n  options: {depths: deep}", 7, ["space.options"]),
        ("training:\n  epochs: -3", 7, ["training.epochs", "-3", "nearest valid value is 1"]),
        ("training:\n  batch_size: 0", 7, ["training.batch_size", "got 0"]),
        ("training:\n  learning_rate: 0", 7, ["training.learning_rate", "got 0"]),
        ("training:\n  twins: yes", 7, ["training.twins is true or false", "write twins: true"]),
        ("training:\n  balancing: equals", 7, ['"equals"', "did you mean 'equal'?"]),
        ("training:\n  epoch: 3", 7, ["'epoch'", "did you mean 'epochs'?"]),
        ("training: [epochs, 3]", 6, ["training is a mapping"]),
        ("search:\n  sampler: nsga", 7, ['"nsga"', "did you mean 'nsga2'?"]),
        ("search:\n  batch_size: 0", 7, ["search.batch_size", "got 0"]),
        ("name: again", 6, ["'name'", "line 1"]),
        ("training:\n  epochs: 1\n  epochs: 2", 8, ["'training.epochs'", "line 7"]),
        ("training:\n\tepochs: 1", 7, ["tab", "spaces"]),
        ("seed: &s 3", None, []),  # an anchor that nobody uses
        ("seed: &s 3\nexecutor: *s", 6, ["anchors"]),
        ("seed: !!python/object:os.system 3", 6, ["python/object:os.system"]),
        ("---\nname: second", 6, ["one document"]),
        ("seed: [1", 7, ["not valid YAML"]),
        ("3: 4", 6, ["a key is a name", "'3'"]),
        ("? [a]\n: 4", 6, ["a key is a name"]),
        ('seed: "\\ud800"', 6, ["seed"]),
        ("seed: \x07", 6, ["U+0007"]),
    ],
)
def test_an_added_mistake_is_said_with_its_line_and_value(added: str, line: int | None, parts: list[str]) -> None:
    text = f"{SHORT}{added}\n"
    if line is None:
        read_job(text)
        return
    error = failure(text)
    assert error.line == line
    assert [part for part in parts if part not in str(error)] == []


@pytest.mark.parametrize(
    ("text", "part"), [("", "empty"), ("# nothing\n", "empty"), ("- a\n", "a list"), ("word", "'word'"), ("[" * 5000, "deep")]
)
def test_what_is_no_mapping_is_said(text: str, part: str) -> None:
    assert part in str(failure(text))


def test_of_several_problems_the_first_is_named_and_the_others_counted() -> None:
    error = failure(SHORT + "training:\n  epoch: 1\n  batch_size: many\nsede: 3\n")
    assert error.line == 7
    assert "(2 more problems after this)" in str(error)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: rooms\n# caf\xe9\n")
    (tmp_path / "big.yaml").write_bytes(b"#" * 100_001)
    for name, part in (
        ("latin.yaml", "line 2: a job file is UTF-8"),
        ("big.yaml", "at most 100000 bytes"),
        ("no.yaml", "nas init"),
        (".", "read"),
    ):
        with pytest.raises(JobFileError, match=part):
            load_job(tmp_path / name)


def test_a_byte_order_mark_and_windows_lines_are_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + SHORT.replace("\n", "\r\n").encode())
    assert load_job(file) == read_job(SHORT)


def test_a_limit_below_the_smallest_subnet_names_what_can_be_met() -> None:
    from search_spaces import make_space

    options = {"images": 2, "test_images": 1, "size": 32}
    text = SHORT + f"data: {{options: {options}}}\n"
    # A second count: the closed form of the space, where the check counts on the network itself.
    tasks = (Task("seg", "segmentation", 6), Task("depth", "depth", 1))
    definition = make_space("slimmable", {}, tasks, InputSpec(3, 32, 32, (0.5,) * 3, (0.2,) * 3))
    smallest = float(definition.macs([definition.space.smallest()])[0])
    assert f"the nearest value that can be met is {smallest:.12g}" in str(failure(text.replace("macs", "macs<=1000")))
    assert read_job(text.replace("macs", f"macs<={smallest:.0f}")).objectives[1].limit == smallest
    params = sum(p.numel() for p in definition.build(definition.space.smallest()).parameters())
    assert f"can be met is {params}" in str(failure(text.replace("macs", f"params<={params - 1}")))


def test_the_starter_runs_as_it_is_and_its_comments_are_the_defaults() -> None:
    job = read_job(starter("my first job"))
    assert job.name == "my first job"
    assert read_job(starter('a "quoted": name\n')).name == 'a "quoted": name'
    # Every key that is commented out, with the value that it shows.
    lines = []
    for line in starter("x").splitlines():
        key = line.strip().removeprefix("# ").partition(":")[0]
        shown = line.lstrip().startswith("# ") and key.isidentifier() and key != "path"
        lines.append(line.replace("# ", "", 1) if shown else line)
    assert sum(a != b for a, b in zip(lines, starter("x").splitlines(), strict=True)) == 26
    defaults = SpaceSpec("slimmable", {"widths": [0.25, 0.5, 0.75, 1.0], "depths": [1, 2], "resolutions": [0.75, 1.0]})
    assert read_job("\n".join(lines)) == replace(job, name="x", space=defaults)


@pytest.mark.parametrize("name", ["scenes", "digits", "digits_int8"])
def test_the_examples_are_valid(name: str) -> None:
    assert load_job(EXAMPLES / f"{name}.yaml").name == name


def test_the_nyuv2_example_is_valid_where_its_data_is() -> None:
    if not (EXAMPLES.parents[1] / "shared/data/vision/nyuv2_96x128.npz").is_file():
        pytest.skip("the NYUv2 file is not here")
    assert load_job(EXAMPLES / "nyuv2.yaml").training.twins


def test_the_example_of_own_data_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.data import load_data

    monkeypatch.chdir(EXAMPLES)
    job = load_job(EXAMPLES / "own_data.yaml")
    data = load_data(job.data, job.tasks, job.seed)
    assert (len(data.train), len(data.val), len(data.test)) == (510, 90, 120)
    assert torch.equal(data.train.targets["mask"].flatten(1).any(1), torch.ones(510, dtype=torch.bool))


OWN = "name: own\ntasks: [mask, side]\nobjectives:\n  - error.mask\n  - macs\ndata: {name: 'python:my_data:load'}\n"


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_data.py").write_text("def load():\n    raise OSError('not now')\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("own_data")
@pytest.mark.parametrize(
    ("metric", "direction"), [("miou.mask", "max"), ("rmse_m.side", "min"), ("accuracy.side", "max"), ("within_11.mask", "max")]
)
def test_a_metric_of_ones_own_data_is_known_by_its_name(metric: str, direction: str) -> None:
    assert read_job(OWN.replace("error.mask", metric)).objectives[0] == Objective(metric, direction)  # type: ignore[arg-type]


@pytest.mark.usefixtures("own_data")
@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("error.mask", "miuo.mask", ["no metric 'miuo.mask'", "did you mean 'miou.mask'?"]),
        ("error.mask", "miou.mask<=30", ["maximised", "miou.mask>=NUMBER"]),
        (
            "[mask, side]",
            "[maks, side]",
            ["'error.mask' is of 'mask', and tasks has maks, side; mend the one"],
        ),
        ("[mask, side]", "[mask, type]", ["no word of torch's own", "'type'"]),
        ("[mask, side]", "[mask, a.b]", ["no dot", "'a.b'"]),
        ("[mask, side]", "[mask, a@b]", ["none of @ = < > ,", "'a@b'"]),
        ("[mask, side]", "[mask, ../side]", ["no path upwards", "'../side'"]),
    ],
)
def test_names_of_ones_own_data_are_checked_when_they_are_read(old: str, new: str, parts: list[str]) -> None:
    assert [part for part in parts if part not in str(failure(OWN.replace(old, new)))] == []


def test_a_limit_can_name_every_task() -> None:
    assert parse_limit(" error.fine/grain <= 0.5") == Objective("error.fine/grain", "min", 0.5)
    assert parse_limit("miou.größe:2>=3") == Objective("miou.größe:2", "max", 3.0)


def test_too_few_networks_are_said_with_the_line_of_the_options() -> None:
    error = failure(SHORT + "space:\n  options: {widths: [1.0], depths: [1], resolutions: [1.0]}\n")
    assert error.line == 7
    assert "at least 3 architectures" in str(error)
    assert "search.profile_samples is from 3 to 100000: got 2" in str(failure(SHORT + "search: {profile_samples: 2}\n"))
