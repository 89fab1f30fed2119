"""Formulations: what a community's physics, commitment and money are as variables and rows."""
