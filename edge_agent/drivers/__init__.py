"""Field protocols, one file each; `driver.py` says what the agent expects of them.

Must not know: the spool, the uplink, commands.
"""
