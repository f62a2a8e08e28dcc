"""The software bill of materials, in CycloneDX's JSON: what is installed, with hashes and licences.

    python -m supply.sbom

It writes build/sbom.json, with what users install, and build/sbom-dev.json, with what developers
install as well. What everybody needs is `required`, what comes with an extra is `optional`, what
only developers need is `excluded`. Made from the lock files; the same locks give the same bytes.
Source: CycloneDX 1.6, ECMA-424.
"""

from __future__ import annotations

import json
import sys
from itertools import chain
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from sarc_kb import __version__
from supply.licences import licence
from supply.packages import (
    ALWAYS,
    DEV_LOCK,
    DEVELOPERS,
    ROOT,
    Package,
    installed,
    needs,
    of_users,
    read_lock,
    requirements,
)

OURSELVES = "sarc-kb"
VERSION = SchemaVersion.V1_6


def bill(developers: bool) -> Bom:
    """Return the bill of what users install, or of all that developers install."""
    packages = read_lock(DEV_LOCK)
    users = of_users()
    wanted = requirements()
    edges = needs(chain(*wanted.values()), packages)
    scopes = {
        name: ComponentScope.EXCLUDED if name not in users
        else ComponentScope.REQUIRED if ALWAYS in users[name]
        else ComponentScope.OPTIONAL
        for name in packages
    }  # fmt: skip
    parts = {name: component(packages[name], scopes[name]) for name in (packages if developers else users)}  # fmt: skip
    top = Component(
        name=OURSELVES, version=__version__, type=ComponentType.APPLICATION,
        purl=PackageURL("pypi", name=OURSELVES, version=__version__), bom_ref=OURSELVES,
        licenses=[LicenseFactory().make_from_string("Apache-2.0 AND CC-BY-4.0")],
    )  # fmt: skip
    found = Bom(components=parts.values(), metadata=BomMetaData(component=top))
    roots = {
        canonicalize_name(r.name)
        for extra, group in wanted.items()
        for r in group
        if developers or extra != DEVELOPERS
    }
    found.register_dependency(top, [parts[n] for n in sorted(roots & parts.keys())])
    for name, part in parts.items():
        found.register_dependency(part, [parts[n] for n in sorted(edges[name] & parts.keys())])
    return found


def component(package: Package, scope: ComponentScope) -> Component:
    """Return a package as a part of the bill; its hashes are those of its files, one of which is
    installed, and not of the package."""
    purl = PackageURL("pypi", name=package.name, version=package.version)
    stated = licence(package.name, installed(package))
    return Component(
        name=package.name, version=package.version, type=ComponentType.LIBRARY, scope=scope,
        purl=purl, bom_ref=f"{package.name}@{package.version}",
        external_references=[ExternalReference(
            type=ExternalReferenceType.DISTRIBUTION, url=XsUri(purl.to_string()),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=h) for h in package.hashes],
        )],
        licenses=[LicenseFactory().make_from_string(stated)] if stated else [],
    )  # fmt: skip


def text(found: Bom) -> str:
    """Return a bill as JSON: named after what it says, and without the time.

    Raises:
        ValueError: it does not follow the schema of CycloneDX.
    """
    document = json.loads(make_outputter(found, OutputFormat.JSON, VERSION).output_as_string())
    del document["metadata"]["timestamp"], document["serialNumber"]
    document["serialNumber"] = uuid5(NAMESPACE_URL, json.dumps(document)).urn
    whole = json.dumps(document, indent=2, sort_keys=True) + "\n"
    fault = JsonStrictValidator(VERSION).validate_str(whole)
    if fault is not None:
        raise ValueError(f"the bill of materials does not follow CycloneDX: {fault}")
    return whole


def main(folder: Path = ROOT / "build") -> int:
    folder.mkdir(exist_ok=True)
    for name, developers in (("sbom.json", False), ("sbom-dev.json", True)):
        (folder / name).write_text(text(bill(developers)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
