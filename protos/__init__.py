"""The contract between edge, cloud and grid: messages and the sans-IO code both sides must share.

Imports protobuf, cryptography and the standard library, nothing of ours.
"""
