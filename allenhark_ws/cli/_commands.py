"""The commands and their options, as click knows them; each hands over to a module that does the work.

Neighbours: `_options` has what several commands share, `_exit` makes exit codes.  Nothing here talks to a client, and
what does is loaded when a command runs: help and shell completion are quick.
"""

# ruff: noqa: PLC0415 - a command loads its own module when it runs

from __future__ import annotations

from collections.abc import Callable

import click

from allenhark_ws import Channel

from ._options import Server, channel_options, chosen_channels, examples, server_options, talk_options, verbose_option

__all__ = ["commands"]

_SECONDS = click.FloatRange(min=0, min_open=True)


_EXIT_CODES = """

\b
Exit codes:
  0    ok, a closed pipe included
  1    runtime failure
  2    usage, or no API key
  3    the server rejected the API key
  130  Ctrl-C
  143  SIGTERM"""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "allenhark-ws demo                  a simulated market, no account needed",
        "allenhark-ws doctor                why does it not connect?",
        "allenhark-ws tail --price MINT     live prices: text on a terminal, JSON in a pipe",
    )
    + _EXIT_CODES,
)
@click.version_option(package_name="allenhark-ws")
def commands() -> None:
    """Live Solana prices, bot updates and confirmations from AllenHark's WebSocket API.

    Data goes to stdout, talk to stderr.  The API key comes from the variable ALLENHARK_API_KEY or from --api-key-file.
    Colours show on a terminal; NO_COLOR and FORCE_COLOR are respected.
    """


def _perform(command: Callable[[], int]) -> int:
    from ._exit import exit_code

    return exit_code(command)


@commands.command(
    short_help="Show the client at work on a simulated market.",
    epilog=examples("allenhark-ws demo --seconds 10", "allenhark-ws demo --json | head -n 3"),
)
@click.option("--seconds", type=_SECONDS, metavar="SECONDS", help="End after so long; without it, on Ctrl-C.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print each event as one line of JSON; the summary goes to stderr."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the simulated market.")
def demo(*, seconds: float | None, as_json: bool, seed: int) -> int:
    """Show the client at work, without an account or a network.

    Starts a simulated server with a live market over TLS on this machine, connects the real client to it, subscribes to
    three prices, a bot and a wallet, and shows the typed events as they come, then a summary.
    """
    from ._demo import run_demo

    return _perform(lambda: run_demo(seconds=seconds, as_json=as_json, seed=seed))


@commands.command(
    short_help="Print events as they come.",
    epilog=examples(
        "allenhark-ws tail --price So11111111111111111111111111111111111111112",
        "allenhark-ws tail --bot bot_abc123 --wallet 9WzDX… --limit 100 > events.jsonl",
        "allenhark-ws tail --price MINT --decimal | jq -r .price",
        "allenhark-ws tail --price MINT --text | grep -v 'volume 0'",
    ),
)
@channel_options
@click.option(
    "--json/--text",
    "as_json",
    default=None,
    help="One JSON object per line, or lines for a person.  [default: text on a terminal, else JSON]",
)
@click.option("--decimal", is_flag=True, help="Exact numbers, every digit the server sent; as strings in JSON.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@click.option("--seconds", type=_SECONDS, metavar="SECONDS", help="End after so long; without it, on Ctrl-C.")
@click.option(
    "--lifecycle/--no-lifecycle",
    default=True,
    show_default=True,
    help="Tell on stderr of connections, losses and gaps.",
)
@click.option(
    "--connect-timeout",
    type=_SECONDS,
    metavar="SECONDS",
    default=10.0,
    show_default=True,
    help="For the first connection, retries included; once connected, it comes back for ever.",
)
@server_options
@talk_options
def tail(  # noqa: PLR0913 - an argument for each option
    *,
    price: tuple[Channel, ...],
    bot: tuple[Channel, ...],
    wallet: tuple[Channel, ...],
    as_json: bool | None,
    decimal: bool,
    limit: int | None,
    seconds: float | None,
    lifecycle: bool,
    connect_timeout: float,
    server: Server,
    quiet: bool,
) -> int:
    """Print events as they come: prices, bot updates, confirmed transactions.

    On a terminal a line for a person, in a pipe or file one JSON object per line.  Nothing is dropped: when the reader
    of a pipe is slow the server is held back, and stderr says so.  After a loss it reconnects and tells of the gap.
    """
    channels = chosen_channels(price, bot, wallet)
    from ._tail import run_tail

    return _perform(
        lambda: run_tail(
            server.client(decimal=decimal, connect_timeout=connect_timeout),
            channels,
            as_json=as_json,
            limit=limit,
            seconds=seconds,
            patience=connect_timeout,
            lifecycle=lifecycle,
            quiet=quiet,
        )
    )


@commands.command(
    short_help="Run a simulated server with a live market.",
    epilog=examples(
        "allenhark-ws simulate --port 8765",
        "ALLENHARK_API_KEY=test-key allenhark-ws tail --url ws://127.0.0.1:8765/v1/ws --price any-mint",
    ),
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Port on 127.0.0.1; 0: a free one.",
)
@click.option("--tls", is_flag=True, help="Serve wss:// with a certificate of a throw-away authority.")
@click.option(
    "--ca-file",
    type=click.Path(dir_okay=False, writable=True),
    help="With --tls: write the authority's certificate there.  [default: a temporary file]",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the market: the same one, the same prices."
)
@talk_options
def simulate(*, port: int, tls: bool, ca_file: str | None, seed: int, quiet: bool) -> int:
    """Run a simulated server with a live market until Ctrl-C; print its URL on stdout.

    It accepts the key "test-key" and has prices for every mint, trades for every bot and confirmations for every wallet
    that anybody subscribes to.  Nothing leaves this machine.
    """
    if ca_file is not None and not tls:
        raise click.UsageError("--ca-file is where --tls writes its certificate authority: pass --tls too")
    from ._simulate import run_simulate

    return _perform(lambda: run_simulate(port=port, tls=tls, ca_file=ca_file, seed=seed, quiet=quiet))


@commands.command(
    short_help="Find out why it does not connect.",
    epilog=examples(
        "allenhark-ws doctor",
        "allenhark-ws doctor --api-key-file ~/.allenhark-key --timeout 3",
        "allenhark-ws doctor --json | jq '.steps[] | select(.status != \"ok\")'",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object when it is complete.")
@click.option(
    "--timeout",
    type=_SECONDS,
    metavar="SECONDS",
    default=10.0,
    show_default=True,
    help="For connecting, and again for the answer to the key.",
)
@server_options
@verbose_option
def doctor(*, as_json: bool, timeout: float, server: Server) -> int:
    """Find out why it does not connect, or that all is well.

    Makes one connection exactly as the client does and watches each step: proxy, DNS, TCP to each address, TLS, the
    WebSocket upgrade, the API key, the first pong, the clocks.  What fails is explained.  The key is not shown.
    """
    from ._doctor import run_doctor

    return _perform(lambda: run_doctor(server, as_json=as_json, timeout=timeout))


@commands.command(
    short_help="Print the script for completion in a shell.",
    epilog=examples(
        'eval "$(allenhark-ws completion bash)"              in ~/.bashrc',
        'eval "$(allenhark-ws completion zsh)"               in ~/.zshrc',
        "allenhark-ws completion fish > ~/.config/fish/completions/allenhark-ws.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> int:
    """Print the script that makes a shell complete commands and options with TAB."""
    from ._completion import run_completion

    return _perform(lambda: run_completion(shell, commands))
