"""What everybody may use: settings, clock, logging, errors, ports. Knows no engine and no transport."""
