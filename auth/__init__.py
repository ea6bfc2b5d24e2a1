"""Who gets in and what they may do: directories, codes, throttling, policy, sessions."""
