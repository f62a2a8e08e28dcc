"""Judge a cohort: the compiled rules and the prepared facts as tables, evaluated by one plan.

Preparing a patient is the same code as for one patient (`sarc_kb.prepare`). What follows never
walks a graph: a fact's *profile* holds the same marks that the prepared graph carries, a clause is
a row, and one join, one grouping by patient and clause, and one fold of bits give both readings of
every clause for everybody. ``docs/cohort.md`` is the user's page.
"""
