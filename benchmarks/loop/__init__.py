"""The closed loop: the planner against plants it was not fitted to, over a measured month. Must not know: the cloud's processes."""
