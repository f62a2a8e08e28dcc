"""One knowledge base for the whole run, loaded once; and a browser for whoever looks at pages."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import pytest

from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.errors import UsageError
from sarc_kb.kb import KnowledgeBase
from sarc_kb.rules import Trial
from tests.browser import chromium
from tests.service import service

__all__ = ["chromium", "engine", "kb", "service", "trial"]


@pytest.fixture(scope="session")
def kb() -> KnowledgeBase:
    return KnowledgeBase.load()


@pytest.fixture(scope="session")
def trial(kb: KnowledgeBase) -> Trial:
    return kb.compile()


@pytest.fixture(scope="session")
def engine(kb: KnowledgeBase) -> ShaclEngine:
    """The fastest processor that is installed; `test_engines` holds that all say the same."""
    with suppress(UsageError):  # an optional extra
        return kb.engine(name="pyshifty")[1]
    return kb.engine()[1]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In CI, tell a failure when it happens as well: a run that is cut off has no summary."""
    if report.failed and os.environ.get("CI") and "PYTEST_XDIST_WORKER" not in os.environ:
        end = "\n".join(report.longreprtext.splitlines()[-20:])
        print(f"\nfailed in {report.when}: {report.nodeid}\n{end}", file=sys.__stdout__, flush=True)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse a run whose groups the runner would tear apart: each process would make all anew."""
    if getattr(session.config.option, "loadgroup", False):
        for item in session.items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError("this pytest-xdist does not keep groups of tests together")
