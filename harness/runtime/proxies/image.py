"""The embedded engine as an image: what it is built from, and a name that changes with it.

The folder holds the engine's own modules and nothing else of this package, also where it is an installed one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import harness

REPOSITORY = "chaos-harness/embedded"

PACKAGE = Path(harness.__file__).parent
ENGINE = Path("runtime/proxies/embedded")
ENCLOSING = (Path("__init__.py"), Path("runtime/__init__.py"), Path("runtime/proxies/__init__.py"))

CERTIFICATES = "certificates.crt"
"""What pip trusts in the build; empty for what the base image trusts."""

PASSED_ON = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_PROXY",
    "PIP_RETRIES",
    "PIP_TIMEOUT",
    "PIP_DEFAULT_TIMEOUT",
)
"""What pip may be told by this machine's environment; what names a path of this machine means nothing in a build."""


def write_build_context(folder: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Write all that `docker build` needs into a folder, which must be empty or not exist.

    The certificates that pip is told to trust on this machine (PIP_CERT) go with it, for the build alone.
    """
    for name, source in _files().items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    trusted = environment.get("PIP_CERT", "")
    (folder / CERTIFICATES).write_bytes(Path(trusted).read_bytes() if trusted and Path(trusted).is_file() else b"")


def build_args(base_image: str = "", environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The arguments of the build: another base image where one is given, and how pip finds packages where it is told."""
    args = {name: environment[name] for name in PASSED_ON if environment.get(name)}
    return {"BASE_IMAGE": base_image, **args} if base_image else args


def image_tag(base_image: str = "") -> str:
    """The image's name: another one for every other content, so that what has this name need not be built again."""
    content = hashlib.sha256(base_image.encode())
    for name, source in sorted(_files().items()):
        content.update(b"\0" + name.encode() + b"\0" + source.read_bytes())
    return f"{REPOSITORY}:{content.hexdigest()[:16]}"


def _files() -> dict[str, Path]:
    """Where each file of the build comes from, by its name in it."""
    engine = PACKAGE / ENGINE
    modules = [*ENCLOSING, *(ENGINE / module.name for module in sorted(engine.glob("*.py")))]
    own = {f"harness/{module.as_posix()}": PACKAGE / module for module in modules}
    return {"Dockerfile": engine / "Dockerfile", "requirements.txt": engine / "requirements.txt", **own}
