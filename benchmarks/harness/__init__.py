"""The harness: suites, plans, the loop over units, records, and reports.

It calls methods through `methods.base.Method` alone and knows none of them by name.
"""
