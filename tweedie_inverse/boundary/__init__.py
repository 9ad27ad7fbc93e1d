"""What comes from outside: numbers, arrays, pictures, and functions that a user wrote.

One place for each of them, below everything else: nothing here knows an operator, a prior or a
walk.
"""
