"""``sarc-kb pack`` and ``sarc-kb verify``: what reports rest on, kept together and tried again."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarc_kb import cli

if TYPE_CHECKING:
    from sarc_kb.provenance.pack import Given
    from sarc_kb.provenance.verify import Verification


def add_parsers(commands: Any) -> None:
    """Add both commands to the parser."""
    pack = commands.add_parser(
        "pack",
        help="one archive of what the reports on some patients rest on",
        epilog="Exit codes: 0 written, whatever the verdicts; 2 could not run.",
    )
    pack.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="patient graphs, FHIR JSON, facts tables; folders (of an OMOP CDM: sarc-kb facts first)",
    )
    cli.common_options(pack)
    cli.mapping_options(pack)
    cli.judging_options(pack)
    pack.add_argument(
        "--with-inputs",
        action="store_true",
        help="put the records themselves into the archive too, not only their hashes",
    )
    pack.add_argument(
        "--output",
        "-o",
        metavar="FILE.zip",
        required=True,
        help="write the archive there, whole or not at all",
    )
    verify = commands.add_parser(
        "verify",
        help="make the reports of a pack again and compare byte for byte",
        epilog="Exit codes: 0 the same, 1 something differs, 2 could not run.",
    )
    verify.add_argument("pack", metavar="FILE.zip", help="what sarc-kb pack wrote")
    verify.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="the inputs that are not in it, or folders of them; found by their content",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    return _pack(options) if options.command == "pack" else _verify(options)


def _pack(options: argparse.Namespace) -> int:
    from sarc_kb.kb import KnowledgeBase, data_folder
    from sarc_kb.provenance.manifest import Options, sha256_of
    from sarc_kb.provenance.pack import pack

    root = Path(options.rules) if options.rules else data_folder()
    trial = options.trial or KnowledgeBase.load(root).default_trial()
    attest, policy, reading, relax = (
        tuple(cli.pairs(f"--{name}", getattr(options, name)).items())
        for name in ("attest", "policy", "reading", "relax")
    )
    asked = Options(
        trial=trial.upper(),
        engine=options.engine,
        only=options.only,
        entry_date=options.entry_date,
        as_of=options.as_of,
        complete=tuple(filter(None, options.complete.split(","))),
        attest=attest,
        policy=policy,
        reading=reading,
        relax=relax,
    )
    output = Path(options.output)
    manifest = pack(_given(options), asked, root, output, with_inputs=options.with_inputs)
    count = len(manifest.inputs)
    kept = "in it" if options.with_inputs else "named by their hashes"
    cli.write(
        f"{output}: {count} input{'' if count == 1 else 's'} ({kept}), {len(manifest.files)} files\n"
        f"sha256 {sha256_of(output)[1]}",
        None,
    )
    return cli.PASS


def _given(options: argparse.Namespace) -> Iterator[Given]:
    from sarc_kb.provenance.pack import Given

    for role, names in (
        ("record", options.files),
        ("entry dates", [options.entry_dates] if options.entry_dates else []),
        ("mappings", options.mappings),
        ("concept ancestors", options.concept_ancestor),
    ):
        for name in names:
            yield Given(Path(name), role)
    for text in options.valueset:
        term, equals, name = text.rpartition("=")
        yield Given(Path(name), "value set", term if equals else None)


def _verify(options: argparse.Namespace) -> int:
    from sarc_kb.provenance.verify import verify

    found = verify(Path(options.pack), map(Path, options.files))
    cli.write("\n".join(_lines(options.pack, found)), None)
    return cli.FAIL if found.different else cli.PASS


def _lines(name: str, found: Verification) -> Iterator[str]:
    from sarc_kb.kb import content_sha256, data_folder

    word = "DIFFERS" if found.different else "VERIFIED"
    total = len(found.same) + len(found.different)
    yield f"{word}  {name}: {len(found.same)} of {total} files made again are the same, byte for byte"
    packed = found.manifest.knowledge_base["sha256"]
    here = "the one" if packed == content_sha256(data_folder()) else "another than that"
    yield f"  rules    {found.manifest.options.trial}, rule base {packed}: {here} of this installation"
    for different in found.different:
        yield f"  differs  {different.name}: first at {different.place}"
    for package, then, now in found.versions:
        yield f"  version  {package} {then} then, {now} here"
