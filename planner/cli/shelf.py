"""Commands that show what is on the shelf: models, systems, scenarios; and the dashboard."""

import json
import sys
from typing import Any

import click

from planner.cli.common import overrides, show
from planner.errors import InputError


@click.command()
@click.option("--model", required=True, help="Catalogue name, model YAML, or HF config.json.")
@click.option("--system", required=True, help="System name or YAML.")
@click.option("--weights", help="Format of the large matrices [default: the published one].")
@click.option("--kv", default="bf16", show_default=True, help="Format of the KV cache.")
@click.option(
    "--parallelism",
    metavar="K=V,…",
    help="e.g. attention_dp=8,moe_ep=8 [default: tensor parallelism over 8 devices].",
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="PATH=VALUE",
    help="Replace a value of accelerator, system, model, limits.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def footprint(**options: Any) -> None:
    """Say whether a model fits, device by device, and what is left for the KV cache."""
    from planner.api import footprint_from_options

    answer = footprint_from_options(
        {name: options[name] for name in ("model", "system", "weights", "kv", "parallelism")},
        overrides(options["sets"]),
    )
    show(answer.to_dict, options["as_json"], "print_footprint", answer)


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(name: str | None, as_json: bool) -> None:
    """List the model catalogue, or show one model (name, YAML, or HF config.json)."""
    from planner import files
    from planner.api import model_dict

    if name:
        model = files.load_model(name)
        show(lambda: model_dict(model), as_json, "print_model", model)
        return
    known = [files.load_model(each) for each in files.model_names()]
    show(lambda: [model_dict(m) for m in known], as_json, "print_models", known)


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def hardware(name: str | None, as_json: bool) -> None:
    """List the systems, or show one with its sources and prices."""
    from planner import files

    if name:
        one = files.load_hardware(name)
        show(lambda: one.model_dump(mode="json"), as_json, "print_system", one)
        return
    known = [files.load_hardware(each) for each in files.system_names()]
    show(lambda: [h.model_dump(mode="json") for h in known], as_json, "print_hardware", known)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def scenarios(as_json: bool) -> None:
    """List the shipped scenarios."""
    from planner.files import scenario_titles

    titles = scenario_titles()
    if as_json:
        click.echo(json.dumps(titles, indent=2))
        return
    width = max(map(len, titles))
    for name, title in titles.items():
        click.echo(f"{name:<{width}}  {title}")


@click.command()
@click.option("--port", default=8501, show_default=True)
def app(port: int) -> None:
    """Open the dashboard in the browser (needs the extra [app])."""
    import subprocess
    from importlib.util import find_spec

    from planner.files import app_path

    if find_spec("streamlit") is None:
        raise InputError("", "app", "needs Streamlit: pip install 'moe-planner[app]'")
    flags = [
        "--browser.gatherUsageStats=false", f"--server.port={port}", "--server.maxUploadSize=64",
        "--client.toolbarMode=minimal", "--server.fileWatcherType=none",
    ]  # fmt: skip
    server = [sys.executable, "-m", "planner.dashboard.ready", str(app_path())]
    code = subprocess.call([*server, *flags])
    sys.exit(code)
