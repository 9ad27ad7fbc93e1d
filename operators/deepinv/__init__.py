"""The bridge to deepinv: its physics as our operators and noise models, and ours as physics.

The only folder of operators that imports deepinv, and only inside functions or behind them.
"""
