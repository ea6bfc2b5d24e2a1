"""Where data rests: keyring, segments, blob stores, the catalog and the vault over them."""
