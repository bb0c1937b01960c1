"""The machine a command runs on: files, locks, signals, terminal, devices, processes.

Nothing here knows about images, models or runs.
"""
