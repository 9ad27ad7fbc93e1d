"""The harness: plans, the loop over units, metrics, records, tuning and reports.

It calls methods through `methods.base.Method` alone and knows none of them by name.
"""
