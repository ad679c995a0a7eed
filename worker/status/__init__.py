"""What is true of the running worker now, what happened lately, and the one way to steer it.

Everything that shows the worker to its owner reads this room and nothing else of the running parts.
"""
