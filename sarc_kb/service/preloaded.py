"""Loads the knowledge base where it is imported: in the process that workers are forked from."""

from __future__ import annotations

import gc
import json
import os
from contextlib import suppress

from sarc_kb.service.judge import load
from sarc_kb.service.question import KNOWLEDGE_VARIABLE, Knowledge

# What goes wrong here goes wrong in a worker too, which tells it.
with suppress(Exception):
    given = json.loads(os.environ[KNOWLEDGE_VARIABLE])
    load(
        Knowledge(
            given["rules"],
            tuple(given["mappings"]),
            tuple(given["concept_ancestors"]),
            tuple((term, file) for term, file in given["value_sets"]),
            given["engine"],
        )
    )
# What is here now is never looked through again, and so stays shared with the workers.
gc.collect()
gc.freeze()
