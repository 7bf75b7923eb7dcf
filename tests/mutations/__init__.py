"""Bugs of other implementations, planted in ours: proof that the test named after each one bites.

`table.py` has the patches, `plant.py` puts one in, `test_mutations.py` does so and runs the tests that must
then fail. A patch replaces a piece of one function's source, so it breaks loudly when that piece changes.
"""
