"""Scripts that answer one question each, with a table or a figure in docs/results.

Nothing imports a study but the command line; what two of them share belongs elsewhere.
"""
