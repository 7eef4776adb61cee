"""The commands and their options, as click knows them; each hands over to a module that does the work.

Neighbours: `_demo`, `_exit`.  Nothing here talks to a client.
"""

from __future__ import annotations

import click

from ._demo import run_demo
from ._exit import exit_code

__all__ = ["commands"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="allenhark-ws")
def commands() -> None:
    """Live Solana prices, bot updates and confirmations from AllenHark's WebSocket API."""


@commands.command(
    epilog="Examples:  allenhark-ws demo --seconds 10   |   allenhark-ws demo --json | head -n 3",
)
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so long; without it, on Ctrl-C."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print each event as one line of JSON; the summary goes to stderr."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the simulated market.")
def demo(seconds: float | None, as_json: bool, seed: int) -> int:  # noqa: FBT001 - click passes options by name
    """Show the client at work, without an account or a network.

    Starts a simulated server with a live market over TLS on this machine, connects the real client to it, subscribes to
    three prices, a bot and a wallet, and shows the typed events as they come, then a summary.
    """
    return exit_code(lambda: run_demo(seconds=seconds, as_json=as_json, seed=seed))
