"""One command, one page: whether everything holds on this machine, an accelerator above all.

A section is a question with a target; it knows no other section.
"""
