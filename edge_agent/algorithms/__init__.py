"""What an edge box decides by itself when nobody above wishes anything: parameterised rules, pure over the images of its devices.

A rule gives holds; the desk weighs them like everybody's. Must not know: drivers, transports, the cloud.
"""
