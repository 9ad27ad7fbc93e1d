def list_priors(): return []
def load_prior(n): raise NotImplementedError
