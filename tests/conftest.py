"""One knowledge base for the whole run, loaded once; and a browser for whoever looks at pages."""

from __future__ import annotations

import pytest

from sarc_kb.engines.shacl_engine import ShaclEngine
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
    return kb.engine()[1]
