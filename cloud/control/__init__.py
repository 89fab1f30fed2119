"""The command service: sole writer of the command journal, sole holder of the command signing key. A small process without Ray."""
