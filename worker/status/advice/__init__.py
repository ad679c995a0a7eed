"""Why no jobs come, and what would have earned more.

arrivals    counts what is asked for over the last hour, from figures that say only how much waits
demand      what waits at the Horde for each model
estimate    from these figures to sentences, each with what it rests on; pure
predictions what was predicted for a setting, held against what came after it was changed
advisor     the four of them beside the running worker
"""
