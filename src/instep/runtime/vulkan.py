"""Finds Vulkan drivers for the GPU engine: the user's choice, the system's, SwiftShader (which needs no GPU)."""

from __future__ import annotations

import ctypes.util
import functools
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HINT", "Driver", "drivers", "environment"]

HINT = (
    "needs a Vulkan driver and finds none: install your GPU's, or the software driver SwiftShader, which Debian "
    "ships in chromium: apt-get install chromium"
)

#: Where Vulkan's loader looks for drivers, and where browsers keep SwiftShader.
_MANIFESTS = ("/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/usr/share/vulkan/icd.d")
_BROWSERS = (
    "/usr/lib/chromium", "/usr/lib/chromium-browser", "/usr/lib64/chromium-browser", "/usr/lib64/chromium",
    "/opt/google/chrome", "/opt/chromium.org/chromium", "/snap/chromium/current/usr/lib/chromium-browser",
)  # fmt: skip
_COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_CACHED_BROWSERS = ("ms-playwright/chromium*/chrome-linux*", "puppeteer/chrome*/*/chrome-linux*")
_LOADER = "libvulkan.so.1"


@dataclass(frozen=True)
class Driver:
    """One way to reach Vulkan: ``manifests`` (ICD files; empty: as the environment says) or the ``library`` itself,
    and a ``loader`` where the system has none."""

    name: str
    manifests: tuple[str, ...] = ()
    library: str = ""
    loader: str = ""


@functools.cache
def drivers() -> list[Driver]:
    """The drivers to try, best first. A user's own choice is the only one."""
    folder = _swiftshader_folder()
    has_loader = ctypes.util.find_library("vulkan") is not None
    loader = str(folder / _LOADER) if folder is not None and not has_loader and (folder / _LOADER).exists() else ""
    if not has_loader and not loader:
        return []
    chosen = os.environ.get("VK_DRIVER_FILES") or os.environ.get("VK_ICD_FILENAMES")
    if chosen:
        return [Driver("the environment's", tuple(chosen.split(os.pathsep)), loader=loader)]
    found = []
    manifests = tuple(str(p) for place in _MANIFESTS for p in sorted(Path(place).glob("*.json")))
    if manifests:
        found.append(Driver("the system's", manifests, loader=loader))
    if folder is not None:
        found.append(Driver("SwiftShader", library=str(folder / "libvk_swiftshader.so"), loader=loader))
    return found


def environment(driver: Driver, folder: Path) -> dict[str, str]:
    """Variables that lead a child process to ``driver``; files they speak of are written into ``folder``."""
    manifests = driver.manifests
    if driver.library:
        # of our own: what the browser ships names the library by a relative path, which old loaders look up elsewhere
        manifest = folder / "driver.json"
        icd = {"library_path": driver.library, "api_version": "1.3.0"}
        manifest.write_text(json.dumps({"file_format_version": "1.0.0", "ICD": icd}))
        manifests = (str(manifest),)
    listed = os.pathsep.join(manifests)
    variables = {"VK_DRIVER_FILES": listed, "VK_ICD_FILENAMES": listed}
    if driver.loader:
        # a folder with this one library, so that nothing else of the browser's is found before the system's
        libraries = folder / "lib"
        libraries.mkdir(exist_ok=True)
        if not (libraries / _LOADER).exists():
            (libraries / _LOADER).symlink_to(driver.loader)
        known = os.environ.get("LD_LIBRARY_PATH")
        variables["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, (str(libraries), known)))
    if not os.environ.get("XDG_RUNTIME_DIR"):
        variables["XDG_RUNTIME_DIR"] = str(folder)
    return variables


def _swiftshader_folder() -> Path | None:
    places = [Path(p) for p in _BROWSERS]
    places += [Path(os.path.realpath(p)).parent for name in _COMMANDS if (p := shutil.which(name))]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    places += [p for pattern in _CACHED_BROWSERS for p in sorted(cache.glob(pattern))]
    return next((p for p in places if (p / "libvk_swiftshader.so").is_file()), None)
