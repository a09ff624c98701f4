"""Contract suites for plug-ins and small fixtures, for plansim's own tests and for those of other packages.

A package that adds a scheduler or router runs the same suite as the shipped ones: `check_scheduler("my-name")`.
May import anything; nothing in plansim imports it.
"""
