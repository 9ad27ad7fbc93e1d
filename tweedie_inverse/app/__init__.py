"""The command line and what only it needs: the demo, folders of measurements, launchers.

Nothing below imports this; no mathematics and no network code lives here.
"""
