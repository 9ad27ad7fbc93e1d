"""Images by seed: generators of phantoms, textures and digits, and photographs from packages.

They know nothing of priors or of training; held-out seeds are decided here (`seeds`).
"""
