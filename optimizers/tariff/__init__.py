"""Electricity and heat tariffs as data: one engine gives prices to the optimiser and rates intervals for bills."""
