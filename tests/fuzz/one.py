"""Fuzz one reader in this process, which libFuzzer ends: python -m tests.fuzz.one READER [options].

The options are libFuzzer's own. `python -m tests.fuzz` starts this.
"""

from __future__ import annotations

import json
import logging
import sys

from tests.fuzz.mutate import mutated

OWN_SHARE = 4
"""One change in so many is libFuzzer's own, of bytes."""


def main(arguments: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["sarc_kb"]):
        from tests.fuzz.targets import TARGETS, knowledge
    target = TARGETS[arguments[1]]
    logging.disable(logging.CRITICAL)
    knowledge()
    pool = []
    if target.is_json:
        for data in target.seeds():
            try:
                pool.append(json.loads(data))
            except ValueError:
                continue

    def test(data: bytes) -> None:
        target.check(data, False)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        made = mutated(data, seed, pool) if seed % OWN_SHARE else None
        if made is None or len(made) > most:
            made = atheris.Mutate(data, most)
        return made

    own = {"custom_mutator": mutate} if target.is_json else {}
    atheris.Setup([arguments[0], *arguments[2:]], test, **own)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
