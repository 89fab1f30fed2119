"""One demand-response event over thousands of simulated projects: how fast it is split, how well it is met, who gets cold."""
