"""Economic operation (经济运行, clause 7.3.7): heat at the lowest cost while people stay warm.

`site` reads the register, `learner` the history, `planner` plans, `tracks` says it to devices. Must not know: Ray, NATS, FastAPI.
"""
