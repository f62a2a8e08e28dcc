"""Limits on untrusted input; one place, generous for records and small for attacks."""

MAX_BYTES = 64_000_000
"""Largest single input, in bytes."""
MAX_LINE = 10_000_000
"""Longest line of NDJSON, in bytes."""
MAX_DEPTH = 64
"""Deepest nesting of JSON."""
MAX_LITERAL = 64_000
"""Longest text of one literal, in characters."""
MAX_DIGITS = 40
"""Most digits of a number, written without an exponent."""
MAX_LABEL = 200
"""Longest name of a patient or place that a report repeats, in characters."""
MAX_FACTS = 1_000_000
"""Most facts of one patient in a table of facts, and most rows of one person in an OMOP source."""
