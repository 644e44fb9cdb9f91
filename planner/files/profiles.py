"""Everything that has a name: accelerators, systems, prices, calibrations, models."""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from planner.errors import InputError
from planner.files.yaml_io import load_spec, read_yaml, suggestion, validate
from planner.specs.base import Spec
from planner.specs.calibration import CalibrationSpec
from planner.specs.hardware import AcceleratorSpec, Reference, SystemSpec
from planner.specs.model import ModelSpec
from planner.specs.prices import ApiPrice, Price, PriceList

S = TypeVar("S", bound=Spec)

_PACKAGE = Path(__file__).parents[1]


def data_root(folder: str) -> Path:
    """Folder of shipped data: beside the package in a checkout, inside it in a wheel."""
    checkout = _PACKAGE.parent / folder
    return checkout if checkout.is_dir() else _PACKAGE / "_data" / folder


def app_path() -> Path:
    """The dashboard's script: beside the package in a checkout, inside it in a wheel."""
    checkout = _PACKAGE.parent / "app.py"
    return checkout if checkout.is_file() else _PACKAGE / "_data" / "app.py"


def profile_root() -> Path:
    """Folder of the hardware profiles."""
    return data_root("hardware_profiles")


def _named(folder: Path, name: str, kind: type[S], field: str) -> S:
    """Load ``name`` from ``folder``, or from the YAML file that ``name`` is the path of."""
    path = folder / f"{name}.yaml"
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif not path.is_file() or "/" in name:
        known = names_in(folder)
        raise InputError("", field, f"{name!r} is not known" + suggestion(name, known))
    return load_spec(path, kind)


def names_in(folder: Path) -> list[str]:
    """Names of the profiles in ``folder``, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


@lru_cache(maxsize=256)
def load_accelerator(name: str) -> AcceleratorSpec:
    """Read an accelerator profile by name or path."""
    return _named(profile_root() / "accelerators", name, AcceleratorSpec, "accelerator")


@lru_cache(maxsize=256)
def load_system(name: str) -> SystemSpec:
    """Read a system profile by name or path."""
    return _named(profile_root() / "systems", name, SystemSpec, "system")


def system_names() -> list[str]:
    """Names of all shipped systems."""
    return names_in(profile_root() / "systems")


def accelerator_names() -> list[str]:
    """Names of all shipped accelerators."""
    return names_in(profile_root() / "accelerators")


@lru_cache(maxsize=1)
def _calibration_paths() -> Mapping[str, Path]:
    """Accelerator -> file of its shares, read textually so that one does not parse every file."""
    found: dict[str, Path] = {}
    for path in sorted((profile_root() / "calibrations").glob("*.yaml")):
        match = re.search(r"^accelerators:(.*?)(?=^\w)", path.read_text("utf-8"), re.M | re.S)
        for name in re.findall(r"[\w.-]*\w[\w.-]*", match.group(1)) if match else ():
            found.setdefault(name, path)
    return found


@lru_cache(maxsize=256)
def load_calibration(accelerator: str) -> CalibrationSpec:
    """Achieved shares for ``accelerator``: its own family's, else the default's."""
    default = profile_root() / "calibrations" / "default.yaml"
    return _calibration(_calibration_paths().get(accelerator, default))


@lru_cache(maxsize=256)
def _calibration(path: Path) -> CalibrationSpec:
    return load_spec(path, CalibrationSpec)


@lru_cache(maxsize=1)
def _prices() -> PriceList:
    lists = [load_spec(p, PriceList) for p in sorted((profile_root() / "prices").glob("*.yaml"))]
    return PriceList(
        devices=tuple(price for each in lists for price in each.devices),
        apis=tuple(price for each in lists for price in each.apis),
    )


def device_prices(accelerator: str) -> tuple[Price, ...]:
    """Every shipped price of one accelerator."""
    return tuple(price for price in _prices().devices if price.accelerator == accelerator)


def api_prices() -> tuple[ApiPrice, ...]:
    """Every shipped token price."""
    return _prices().apis


@lru_cache(maxsize=1)
def references() -> dict[str, Reference]:
    """Source key -> where it leads."""
    document = read_yaml(profile_root() / "references.yaml")
    return {
        key: validate(entry, Reference, document, (key,)) for key, entry in document.data.items()
    }


def catalogue_root() -> Path:
    """Folder of the model catalogue."""
    return _PACKAGE / "catalogue"


def model_names() -> list[str]:
    """Names of all models of the catalogue (aliases not included)."""
    return names_in(catalogue_root())


@lru_cache(maxsize=1)
def _aliases() -> Mapping[str, str]:
    """Alias -> name, read textually so that finding one name does not parse every file."""
    found: dict[str, str] = {}
    for path in sorted(catalogue_root().glob("*.yaml")):
        match = re.search(r"^aliases:\s*\[(.*?)\]", path.read_text("utf-8"), re.M | re.S)
        for alias in match.group(1).split(",") if match else ():
            found[alias.strip().strip("\"'")] = path.stem
    return found


@lru_cache(maxsize=256)
def load_model(name: str) -> ModelSpec:
    """Read a model by catalogue name or alias, or from a YAML file or Hugging Face config.json."""
    if name.endswith(".json"):
        from planner.hf import model_from_hf_config

        return model_from_hf_config(Path(name))
    return _named(catalogue_root(), _aliases().get(name, name), ModelSpec, "model")
