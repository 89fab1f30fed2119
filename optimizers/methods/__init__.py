"""Methods: how a formulation is solved."""
