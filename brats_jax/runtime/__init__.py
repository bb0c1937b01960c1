"""What the program needs of its machine: files, locks, signals, terminal, devices, processes.

Nothing here depends on images, models or runs.
"""
