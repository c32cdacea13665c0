"""What an auditor runs on publications: make a key, check blocks, open entries. Needs no box and no IPFS library."""
