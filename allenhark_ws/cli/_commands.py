"""The commands and their options, as click knows them; each hands over to a module that does the work.

Neighbours: `_options` has what several commands share, `_exit` makes exit codes.  It must never talk to a client: what
does is loaded when a command runs, and help and shell completion are quick.
"""

# ruff: noqa: PLC0415 - a command loads its own module when it runs

from __future__ import annotations

from collections.abc import Callable

import click

from allenhark_ws import Channel, __version__

from ._options import (
    COUNT,
    FACTOR,
    PORT,
    SECONDS,
    SEED,
    Server,
    channel_options,
    chosen_channels,
    connect_timeout_option,
    examples,
    output_options,
    seconds_option,
    series_option,
    server_options,
    talk_options,
    verbose_option,
)

__all__ = ["commands"]


_RECORDING = click.Path(exists=True, dir_okay=False, readable=True)

_EXIT_CODES = """

\b
Exit codes:
  0    ok, a closed stdout included
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
        "allenhark-ws tail --price MINT     text on a terminal, JSON in a pipe",
        "allenhark-ws record day.jsonl.gz --price MINT",
    )
    + _EXIT_CODES,
)
@click.version_option(__version__)
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
@seconds_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print each event as one line of JSON; the summary goes to stderr."
)
@click.option("--seed", type=SEED, metavar="N", default=0, show_default=True, help="Seed of the simulated market.")
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
        "allenhark-ws tail --bot bot_abc123 --wallet ADDRESS --limit 9 > events.jsonl",
        "allenhark-ws tail --price MINT --decimal | jq -r .price",
        "allenhark-ws tail --price MINT --text | grep -v 'volume 0'",
    ),
)
@channel_options
@output_options
@seconds_option
@click.option(
    "--lifecycle/--no-lifecycle",
    default=True,
    show_default=True,
    help="Tell on stderr of connections, losses and gaps.",
)
@connect_timeout_option
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
    short_help="Write what is received to a file.",
    epilog=examples(
        "allenhark-ws record day.jsonl.gz --price So11111111111111111111111111111111111111112",
        "allenhark-ws record day.jsonl --bot bot_abc123 --append --seconds 3600",
        "allenhark-ws record day.jsonl.gz --price MINT --interval 3600   # a file an hour",
    ),
)
@click.argument("file", type=click.Path(dir_okay=False))
@channel_options
@click.option("--append", is_flag=True, help="Go on with the file if it is there; nothing is ever overwritten.")
@click.option("--max-bytes", type=COUNT, metavar="N", help="Begin another file at this size.")
@click.option("--interval", type=SECONDS, metavar="SECONDS", help="Begin another file after so long.")
@seconds_option
@connect_timeout_option
@server_options
@talk_options
def record(  # noqa: PLR0913 - an argument for each option
    *,
    file: str,
    price: tuple[Channel, ...],
    bot: tuple[Channel, ...],
    wallet: tuple[Channel, ...],
    append: bool,
    max_bytes: int | None,
    interval: float | None,
    seconds: float | None,
    connect_timeout: float,
    server: Server,
    quiet: bool,
) -> int:
    """Write every received frame to FILE, with the time it was received, until Ctrl-C.

    JSON Lines, compressed by gzip when FILE ends in .gz.  A crash loses the last second at most.  Losses and gaps are
    told on stderr; on a terminal a line there shows how much was written.
    """
    channels = chosen_channels(price, bot, wallet)
    from ._record import run_record

    return _perform(
        lambda: run_record(
            server.client(connect_timeout=connect_timeout),
            channels,
            file,
            append=append,
            max_bytes=max_bytes,
            interval=interval,
            seconds=seconds,
            patience=connect_timeout,
            quiet=quiet,
        )
    )


@commands.command(
    short_help="Print what was recorded.",
    epilog=examples(
        "allenhark-ws replay day.jsonl.gz",
        "allenhark-ws replay day.jsonl --speed 0 --json | jq -r .price",
        "allenhark-ws replay day.jsonl day_0001.jsonl --speed 60",
        "allenhark-ws replay day.jsonl.gz --series   # a whole rotation",
    ),
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=_RECORDING)
@click.option(
    "--speed",
    type=FACTOR,
    default=1.0,
    show_default=True,
    metavar="FACTOR",
    help="2 is twice as fast as it was recorded, 0 as fast as it can be read.",
)
@series_option
@output_options
@talk_options
def replay(  # noqa: PLR0913 - an argument for each option
    *,
    files: tuple[str, ...],
    speed: float,
    series: bool,
    as_json: bool | None,
    decimal: bool,
    limit: int | None,
    quiet: bool,
) -> int:
    """Print the events of recordings as if they were live; neither key nor network is needed.

    On a terminal a line for a person, in a pipe or file one JSON object per line, as "tail" does.
    """
    from ._replay import run_replay

    return _perform(
        lambda: run_replay(
            files, speed=speed, series=series, as_json=as_json, decimal=decimal, limit=limit, quiet=quiet
        )
    )


@commands.command(
    short_help="Make a table of a recording: CSV or Parquet.",
    epilog=examples(
        "allenhark-ws convert day.jsonl.gz day.csv",
        "allenhark-ws convert day.jsonl day_0001.jsonl day.parquet --overwrite",
        "allenhark-ws convert day.jsonl.gz day.csv --series   # a whole rotation",
    ),
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=_RECORDING)
@click.argument("table", type=click.Path(dir_okay=False))
@click.option("--overwrite", is_flag=True, help="Replace TABLE if it is there, once the new one is complete.")
@series_option
@talk_options
def convert(*, files: tuple[str, ...], table: str, overwrite: bool, series: bool, quiet: bool) -> int:
    """Write the events of recordings to TABLE, a row each: .csv, .csv.gz, or .parquet (extra "parquet").

    TABLE is complete, or it is not there.
    """
    from ._convert import run_convert

    return _perform(lambda: run_convert(files, table, overwrite=overwrite, series=series, quiet=quiet))


@commands.command(
    short_help="Run a simulated server with a live market.",
    epilog=examples(
        "allenhark-ws simulate --port 8765",
        "ALLENHARK_API_KEY=test-key allenhark-ws tail --url ws://127.0.0.1:8765/v1/ws --price any-mint",
    ),
)
@click.option(
    "--port",
    type=PORT,
    metavar="N",
    default=0,
    show_default=True,
    help="Port on 127.0.0.1; 0: a free one.",
)
@click.option("--tls", is_flag=True, help="Serve wss:// with a certificate of a throw-away authority.")
@click.option(
    "--ca-file",
    type=click.Path(dir_okay=False, writable=True),
    help="With --tls: write the authority's certificate there, over one that simulate wrote before but over no other "
    "file.  [default: a temporary file]",
)
@click.option(
    "--seed",
    type=SEED,
    metavar="N",
    default=0,
    show_default=True,
    help="Seed of the market: the same one, the same prices.",
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
    type=SECONDS,
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
    WebSocket upgrade, the API key, the first pong, the clocks.  What fails is explained.  The key is not shown; without
    one it goes as far as the upgrade.
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
