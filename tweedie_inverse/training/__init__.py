"""Training denoisers on the template: settings, tasks, the loop, and the export to a prior file.

Walks, operators and solving have no place here; images come from `datasets`.
"""
