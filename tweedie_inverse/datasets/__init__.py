"""Images by seed: generators of phantoms, textures and digits, photographs from packages, and
the user's own (`own`).

They know nothing of priors or of training; held-out seeds are decided here (`seeds`).
"""
