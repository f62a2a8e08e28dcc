"""``sarc-kb serve``: the same over HTTP."""

from __future__ import annotations

import argparse
import os
import socket
from typing import Any

from sarc_kb import cli
from sarc_kb.errors import Finding, UsageError

_TIME, _MEMORY = "60", "1GB"
_TOKEN = "SARC_KB_TOKEN"  # noqa: S105 - the name of a variable


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    serve = commands.add_parser(
        "serve",
        help="answer over HTTP, to this machine alone unless told otherwise",
        epilog=f"A token for those who ask may stand in the environment as {_TOKEN} instead of in a file. It ends with Ctrl-C or SIGTERM, when what is running is answered.",
    )
    serve.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="where to listen; any but a loopback address needs a token (default: 127.0.0.1)",
    )
    serve.add_argument(
        "--port", metavar="N", type=_port, default=8000, help="0 takes any (default: 8000)"
    )
    serve.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="a further name under which the service is reached, such as that of a proxy; may be repeated",
    )
    serve.add_argument(
        "--token-file", metavar="FILE", help="ask everybody for the token that stands there"
    )
    serve.add_argument(
        "--workers",
        metavar="N",
        type=cli.positive,
        default=os.cpu_count() or 1,
        help="records judged at once, each in a process (default: one a core)",
    )
    serve.add_argument(
        "--waiting",
        metavar="N",
        type=cli.positive,
        default=16,
        help="records that may wait for a process (default: 16)",
    )
    serve.add_argument(
        "--time-limit",
        metavar="SECONDS",
        type=cli.seconds,
        help=f"what one request may take, or none (default: {_TIME})",
    )
    serve.add_argument(
        "--memory-limit",
        metavar="SIZE",
        type=cli.memory,
        help=f"what one request may take of memory, or none (default: {_MEMORY})",
    )
    serve.add_argument(
        "--size-limit",
        metavar="MB",
        type=_size,
        default=10,
        help="of one record, at most 64 (default: 10)",
    )
    serve.add_argument(
        "--upload-limit",
        metavar="SECONDS",
        type=cli.positive,
        default=30,
        help="for one request to arrive, and for somebody to go on reading (default: 30)",
    )
    serve.add_argument("--rules", metavar="FOLDER", help="another knowledge base")
    serve.add_argument(
        "--engine", metavar="NAME", default="pyshacl", help="pyshacl, pyshifty, pyshacl-turbo"
    )
    cli.mapping_options(serve)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a whole number up to 65535")
    return int(text)


def _size(text: str) -> int:
    from sarc_kb.sources.limits import MAX_BYTES

    if cli.positive(text) * 1_000_000 > MAX_BYTES:
        raise argparse.ArgumentTypeError(f"{text!r} is more than a reader takes (64)")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Serve until asked to end, and return the exit code."""
    from sarc_kb.workers import memory_is_limited

    try:
        from sarc_kb.service.desk import Limits
        from sarc_kb.service.question import Knowledge
        from sarc_kb.service.server import Place, is_loopback, serve, token_of
    except ImportError as absent:
        raise UsageError(
            Finding(
                "USE122",
                "error",
                "serve",
                f"the package {absent.name or absent} is not installed",
                "the service is an optional extra",
                "install it with: pip install 'sarc-kb[service]'",
            )
        ) from None
    token = token_of(options.token_file, os.environ.get(_TOKEN))
    if token is None and not is_loopback(options.host):
        raise UsageError(
            Finding(
                "USE123",
                "error",
                f"--host {options.host}",
                "no token",
                "whoever reaches this address could send records and read the answers",
                f"give --token-file FILE or set {_TOKEN}, or leave --host out",
            )
        )
    seconds, memory = cli.limits(options, _TIME, _MEMORY if memory_is_limited() else "none")
    sets = [(given, *given.rpartition("=")) for given in options.valueset]
    knowledge = Knowledge(
        options.rules,
        tuple(options.mappings),
        tuple(options.concept_ancestor),
        tuple((term, file) if equals else (None, given) for given, term, equals, file in sets),
        options.engine,
    )

    def ready(address: str) -> None:
        cli.write(f"sarc-kb serves {address}", None)

    try:
        serve(
            knowledge,
            Place(options.host, options.port, tuple(options.allow_host)),
            token,
            Limits(
                size=options.size_limit * 1_000_000,
                upload=options.upload_limit,
                workers=options.workers,
                waiting=options.waiting,
            ),
            seconds=seconds,
            memory=memory,
            ready=ready,
        )
    except (socket.gaierror, OSError) as error:
        if error.filename is not None:
            raise
        raise UsageError(
            Finding(
                "USE124",
                "error",
                f"--host {options.host} --port {options.port}",
                error.strerror or type(error).__name__,
                "nobody could reach the service there",
                "choose another port or address; port 0 takes any that is free",
            )
        ) from None
    return cli.PASS
