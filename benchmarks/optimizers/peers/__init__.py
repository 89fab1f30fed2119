"""One script a peer: the model as JSON on stdin, {"objective","build_s","solve_s","total_s"} on stdout. Adding a peer = one file (and a hashed .txt if it needs packages)."""
