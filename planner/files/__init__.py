"""The one place where files become specs."""

from planner.files.money import load_ownership, load_region, regions, service_days
from planner.files.profiles import (
    accelerator_names,
    api_prices,
    app_path,
    catalogue_root,
    data_root,
    device_prices,
    load_accelerator,
    load_calibration,
    load_model,
    load_system,
    model_names,
    profile_root,
    references,
    system_names,
)
from planner.files.scenario import (
    apply_overrides,
    load_hardware,
    load_scenario,
    locate,
    scenario_root,
    scenario_titles,
    validate_scenario,
)
from planner.files.traffic import load_traffic
from planner.files.workload import read_workload
from planner.files.yaml_io import load_spec, parse_value, read_yaml, validate

__all__ = [
    "accelerator_names",
    "api_prices",
    "app_path",
    "apply_overrides",
    "catalogue_root",
    "data_root",
    "device_prices",
    "load_accelerator",
    "load_calibration",
    "load_hardware",
    "load_model",
    "load_ownership",
    "load_region",
    "load_scenario",
    "load_spec",
    "load_system",
    "load_traffic",
    "locate",
    "model_names",
    "parse_value",
    "profile_root",
    "read_workload",
    "read_yaml",
    "references",
    "regions",
    "scenario_root",
    "scenario_titles",
    "service_days",
    "system_names",
    "validate",
    "validate_scenario",
]
