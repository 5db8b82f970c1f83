"""Tables of declared jobs: addresses, sizes, and training on data larger than memory."""
