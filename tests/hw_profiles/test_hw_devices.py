"""Device files: the built-in ones, the user's own, and what is said of broken ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hw_profiles.devices import check_device, cpu_name, fingerprint, list_devices, load_device
from nas.core import Device, DeviceError


@pytest.fixture(autouse=True)
def _no_own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAS_DEVICES", raising=False)


def test_built_in_devices_load_and_are_named_after_their_files() -> None:
    devices = {device.name: device for device in list_devices()}
    assert set(devices) == {"local", "local-2t", "raspberry-pi-4"}
    assert devices["local"].threads == 1
    assert devices["local"].resource is None
    assert devices["local-2t"].threads == 2
    assert devices["raspberry-pi-4"].resource == "raspberry-pi-4"
    assert load_device("local") == devices["local"]


def test_an_unknown_device_names_the_nearest() -> None:
    with pytest.raises(DeviceError, match="did you mean 'local-2t'"):
        load_device("local-2")


def test_own_devices_come_by_path_and_by_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jetson.yaml").write_text("description: A board\nthreads: 4\nresource: jetson\n")
    wanted = Device("jetson", "A board", threads=4, resource="jetson")
    assert load_device(str(tmp_path / "jetson.yaml")) == wanted
    monkeypatch.setenv("NAS_DEVICES", str(tmp_path))
    assert load_device("jetson") == wanted
    assert [device.name for device in list_devices()] == ["jetson", "local", "local-2t", "raspberry-pi-4"]


def test_an_own_device_replaces_a_built_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "local.yaml").write_text("description: Mine\n")
    monkeypatch.setenv("NAS_DEVICES", str(tmp_path))
    assert load_device("local").description == "Mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("description: x\ntreads: 2\n", "'treads' is no key.*did you mean 'threads'"),
        ("description: x\nthreads: two\n", "threads is int, not 'two'"),
        ("description: x\nthreads: true\n", "threads is int, not True"),
        ("description: x\nthreads: 0\n", "between 1 and 1024, not 0"),
        ("description: 3\n", "description is str, not 3"),
        ("description: ''\n", "description is not empty"),
        ("threads: 1\n", "description is missing"),
        ("description: [x\n", "is YAML"),
        ("- local\n", "holds list"),
        ("", "holds NoneType"),
        ("1: x\ndescription: x\n", "1 is no key"),
    ],
)
def test_a_malformed_file_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(DeviceError, match=message) as caught:
        load_device(str(path))
    assert "bad.yaml" in str(caught.value)


def test_a_file_that_is_missing_or_binary_is_an_error_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="can be read"):
        load_device(str(tmp_path / "none.yaml"))
    (tmp_path / "raw.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DeviceError, match=r"raw\.yaml"):
        load_device(str(tmp_path / "raw.yaml"))


def test_a_folder_that_is_none_is_an_error_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DEVICES", str(tmp_path / "absent"))
    with pytest.raises(DeviceError, match="NAS_DEVICES names a folder"):
        list_devices()


def test_a_name_that_is_not_the_file_s_is_refused_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("name: b\ndescription: x\n")
    monkeypatch.setenv("NAS_DEVICES", str(tmp_path))
    with pytest.raises(DeviceError, match="calls itself 'b'"):
        load_device("a")


def test_the_provider_has_to_be_installed() -> None:
    device = load_device("local")
    check_device(device)
    with pytest.raises(DeviceError, match="NoSuchProvider"):
        check_device(dataclasses.replace(device, provider="NoSuchProvider"))


def test_the_fingerprint_tells_threads_apart() -> None:
    import onnxruntime

    one, two = fingerprint(load_device("local")), fingerprint(load_device("local-2t"))
    assert one.onnxruntime == onnxruntime.__version__
    assert one.cpu
    assert one.cores >= 1
    assert one.key == fingerprint(load_device("local")).key != two.key


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel\t\t: 79\nmodel name\t: Xeon E5\nmodel name\t: Xeon E5\n", "Xeon E5"),
        (
            "processor\t: 0\nBogoMIPS\t: 108.00\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
            "Raspberry Pi 4 Model B Rev 1.4",
        ),
    ],
)
def test_the_processor_s_name_on_x86_and_arm(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_name(tmp_path / "cpuinfo") == name


def test_the_processor_s_name_without_cpuinfo(tmp_path: Path) -> None:
    assert cpu_name(tmp_path / "absent")
