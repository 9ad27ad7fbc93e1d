"""The instruments and noise models that the command line knows by name, with their options.

Three tables and what reads them: `options` are the options, `instruments` and `noises` say which
of them an operator or a noise model takes, and `asked` makes objects of what a user wrote.  What
the operators do is written in `operators/`; nothing here computes.
"""
