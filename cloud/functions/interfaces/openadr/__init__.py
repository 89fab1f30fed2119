"""OpenADR 3.1 (VTN): programs, events, reports and resources of demand response in the standard's words, over the same service gRPC uses.

Must not know: engines, how an event is allocated.
"""
