"""`digits serve`: the champions behind an address."""

from typing import TYPE_CHECKING

import click

from digits.errors import UsageError
from digits.settings import Settings
from flows import console
from flows.serving.listening import listen
from flows.serving.proxies import LOOPBACK

if TYPE_CHECKING:
    from digits.server.options import ServerOptions

HOST_SETTING, PORT_SETTING, KEY_SETTING = "--host", "--port", "DIGITS_API_KEY"
ALL = "all"


@click.command()
@click.option(
    "--dataset",
    "datasets",
    metavar="NAME",
    multiple=True,
    default=("mnist",),
    show_default=True,
    help="Dataset whose champion is served; may be repeated; `all`: every dataset with a champion.",
)
@click.option("--host", help="Address to listen at  [default: 127.0.0.1, or DIGITS_SERVE_HOST]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port; 0: any free one  [default: 8000, or DIGITS_SERVE_PORT]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1, max=128),
    help="Number of processes, at most one per core  [default: 1, or DIGITS_SERVE_WORKERS]",
)
@click.option(
    "--sample",
    type=click.FloatRange(0, 1),
    help="Share of the requests whose pictures are kept for labeling  [default: 0, or "
    "DIGITS_SERVE_SAMPLE]",
)
@click.option(
    "--drain",
    "drain_seconds",
    type=click.FloatRange(0, 300),
    default=2.0,
    show_default=True,
    help="Seconds between saying that it is not ready and the end, after a SIGTERM.",
)
@click.option("--access-log/--no-access-log", default=True, help="Log each request as JSON.")
def serve(
    datasets: tuple[str, ...],
    host: str | None,
    port: int | None,
    workers: int | None,
    sample: float | None,
    *,
    drain_seconds: float,
    access_log: bool,
) -> None:
    """Answer over HTTP with the champion, and follow promotions and rollbacks.

    On another host than the loopback address, DIGITS_API_KEY must be set. `docs/serve.md` describes
    the interfaces.
    """
    settings = Settings()
    host = settings.serve_host if host is None else host
    port = settings.serve_port if port is None else port
    options = _options(
        datasets,
        settings.serve_sample if sample is None else sample,
        settings,
        drain_seconds=drain_seconds,
        has_access_log=access_log,
    )
    if host not in LOOPBACK and options.api_key is None:
        raise UsageError(
            f"--host {host}: other machines could use the server without a key; set {KEY_SETTING}"
        )
    from digits.server.serving import serve as serve_on

    with listen(host, port, HOST_SETTING, PORT_SETTING) as listener:
        number = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        console.echo(f"Serving at http://{shown}:{number}. Ctrl-C stops it.", err=True)
        serve_on(options, listener, workers or settings.serve_workers)


def _options(
    datasets: tuple[str, ...],
    sample: float,
    settings: Settings,
    *,
    drain_seconds: float,
    has_access_log: bool,
) -> "ServerOptions":
    from digits.server.guard import allowed_names
    from digits.server.options import ServerOptions
    from digits.spec import load_spec

    if ALL not in datasets:
        for name in datasets:
            load_spec(name, settings)
    return ServerOptions(
        settings=settings,
        datasets=None if ALL in datasets else tuple(dict.fromkeys(datasets)),
        names=tuple(allowed_names()),
        api_key=settings.api_key,
        sample=sample,
        drain_seconds=drain_seconds,
        has_access_log=has_access_log,
    )
