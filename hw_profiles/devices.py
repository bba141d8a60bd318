"""Devices as YAML files: the built-in ones beside this module, and the user's own."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from nas.core import Device, DeviceError, Fingerprint, JobSpec, nearest
from nas.core.cores import usable_cores

BUILT_IN = Path(__file__).parent / "devices"
FOLDER_VARIABLE = "NAS_DEVICES"
NAME = re.compile(r"[\w.-]+")
_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "description": (str,),
    "provider": (str,),
    "threads": (int,),
    "resource": (str, type(None)),
}


def load_device(name: str) -> Device:
    """Return the device of this name, or the one that a file describes.

    Args:
        name: The name of a built-in device or of one in the folder ``NAS_DEVICES`` (which comes first), or the path of a
            YAML file: anything that ends in ``.yaml`` or ``.yml``.

    Raises:
        DeviceError: There is no such device, or its file breaks a rule.
    """
    if name.endswith((".yaml", ".yml")):
        return _read(Path(name).expanduser())
    files = _files()
    if name not in files:
        raise DeviceError(
            f"a device is a name from the list or the path of a YAML file: {name!r} is neither; {nearest(name, sorted(files))}"
        )
    return _named(name, files[name])


def job_device(spec: JobSpec, name: str) -> Device:
    """Return a device by its name, as the job has it; where the job has none of this name, as `load_device` finds it."""
    return next((device for device in spec.targets if device.name == name), None) or load_device(name)


def list_devices() -> list[Device]:
    """Return the devices that can be named, sorted by name.

    Raises:
        DeviceError: A file breaks a rule.
    """
    return [_named(name, path) for name, path in sorted(_files().items())]


def fingerprint(device: Device) -> Fingerprint:
    """Return what a latency measured here and now on `device` depends on besides the network."""
    import onnxruntime

    return Fingerprint(
        cpu=cpu_name(),
        cores=usable_cores(),
        onnxruntime=onnxruntime.__version__,
        provider=device.provider,
        threads=device.threads,
    )


def check_device(device: Device) -> None:
    """Check that ONNX Runtime on this machine can run networks for `device`.

    Raises:
        DeviceError: The installed ONNX Runtime lacks the device's provider.
    """
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if device.provider not in available:
        raise DeviceError(
            f"a device's provider is one that the installed ONNX Runtime has: {device.name} asks for {device.provider!r}; "
            f"{nearest(device.provider, available)}"
        )


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the model name of the processor: from Linux's cpuinfo (x86 and Arm spellings), else from the platform."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for label in ("model name", "Model", "Hardware"):
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() == label and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def _files() -> dict[str, Path]:
    """Return name to file; the user's folder wins over the built-in devices."""
    folders = [BUILT_IN]
    if own := os.environ.get(FOLDER_VARIABLE):
        folders.append(Path(own).expanduser())
        if not folders[-1].is_dir():
            raise DeviceError(
                f"{FOLDER_VARIABLE} names a folder of YAML files: {own!r} is no folder; make it or unset {FOLDER_VARIABLE}"
            )
    return {path.stem: path for folder in folders for path in sorted(_yaml_files(folder))}


def _yaml_files(folder: Path) -> Iterator[Path]:
    yield from folder.glob("*.yaml")
    yield from folder.glob("*.yml")


def _named(name: str, path: Path) -> Device:
    device = _read(path)
    if device.name != name:
        raise DeviceError(
            f"{path}: a device in a folder is found by the name of its file: the device calls itself {device.name!r}; "
            f"rename the file or write 'name: {name}'"
        )
    return device


def _read(path: Path) -> Device:
    """Return the device that a file describes; its name, where the file gives none, is the file's."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DeviceError(f"a device file can be read as text: {path} cannot ({error}); check the path") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise DeviceError(f"a device file is YAML: {path} is not ({reason}); correct that line") from error
    if not isinstance(content, dict):
        raise DeviceError(
            f"a device file holds keys and values: {path} holds {type(content).__name__}; write lines such as 'threads: 1'"
        )
    return _device({"name": path.stem, **content}, path)


def _device(content: dict[Any, Any], path: Path) -> Device:
    for key, value in content.items():
        if key not in _TYPES:
            raise DeviceError(f"{path}: {key!r} is no key of a device file; {nearest(key, _TYPES)}")
        if not isinstance(value, _TYPES[key]) or isinstance(value, bool):
            wanted = " or ".join("nothing" if kind is type(None) else kind.__name__ for kind in _TYPES[key])
            raise DeviceError(f"{path}: {key} is {wanted}, not {value!r}; write another value")
        if value == "":
            raise DeviceError(f"{path}: {key} is not empty, but it is {value!r}; write a value or leave the key out")
    missing = [f.name for f in fields(Device) if f.default is MISSING and f.name not in content]
    if missing:
        raise DeviceError(f"{path}: a device file has the keys name and description; {missing[0]} is missing; add it")
    device = Device(**content)
    if not NAME.fullmatch(device.name):
        raise DeviceError(
            f"{path}: a device's name is letters, digits, '.', '_' and '-', so that latency_ms@NAME can be limited: got "
            f"{device.name!r}; rename the file, or give it the key name"
        )
    if not 1 <= device.threads <= 1024:
        raise DeviceError(f"{path}: threads is between 1 and 1024, not {device.threads}; write 1 for one thread")
    return device
