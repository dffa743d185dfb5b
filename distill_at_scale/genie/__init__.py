"""Data-Genie: which sampler, at which budget, for these data?"""
