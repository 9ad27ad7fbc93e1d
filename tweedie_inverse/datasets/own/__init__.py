"""Images of the user's own: folders of files, arrays, torch data sets, as random crops by seed.

What can be trained on is found and said here (sizes, colours, value range, what was left out), and
which images are held out.  Nothing here knows priors or training.
"""
