"""Short programs that show one thing each (示例); run one with `python -m optimizers.examples.plan_a_day`. Must not know: the cloud."""
