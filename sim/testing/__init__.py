"""Contract suites for plug-ins and small fixtures, for plansim's own tests and for those of other packages.

A package that adds a scheduler, router or search algorithm runs the same suite as the shipped ones:
`sim.testing.serving.check_scheduler("my-name")`, `sim.testing.explore.check_algorithm("my-name")`. `benchmarks` is for
importers of benchmark results. `scenarios` has small scenarios on shipped hardware, `results` synthetic results.
May import anything; nothing in plansim imports it.
"""
