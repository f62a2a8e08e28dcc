"""Run a command where there is no network but loopback: what it reaches out for, it does not get.

    python -m supply.offline make test

The kernel makes the command a network of its own (Linux, ``unshare`` of util-linux), so that native
code and child processes are held as well. Servers on 127.0.0.1 and on sockets in the file system
work as ever. The command finds ``SARC_KB_NETWORK=off`` in its environment. Exit code: the
command's; 2 where the machine lets nobody make such a network.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys

# Root may do the first; with the second a user is root in a network of their own, and there alone.
WAYS = (("--net",), ("--user", "--map-root-user", "--net"))
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1  # from linux/sockios.h and linux/if.h


def way_off() -> tuple[str, ...] | None:
    """Return the command that runs another one without network, or None where there is no way."""
    for way in WAYS:
        command = ("unshare", *way)
        try:
            tried = subprocess.run([*command, "true"], capture_output=True, check=False)
        except FileNotFoundError:
            return None
        if tried.returncode == 0:
            return command
    return None


def raise_loopback() -> None:
    """Switch on 127.0.0.1 of a new network, as `ip link set lo up` does where that is installed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def main(arguments: list[str]) -> int:
    """Become the command; return only when that is not possible."""
    if arguments[:1] == ["--inside"]:
        raise_loopback()
        os.environ["SARC_KB_NETWORK"] = "off"
        return os.execvp(arguments[1], arguments[1:])
    if not arguments:
        print("usage: python -m supply.offline COMMAND ...", file=sys.stderr)
        return 2
    way = way_off()
    if way is None:
        print(
            "The network cannot be switched off: `unshare --net` and `unshare --user --map-root-user --net` "
            "both fail. Run as root, let users make namespaces, or start the container with --cap-add SYS_ADMIN.",
            file=sys.stderr,
        )
        return 2
    sys.stdout.flush()
    return os.execvp(way[0], [*way, sys.executable, "-m", "supply.offline", "--inside", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
