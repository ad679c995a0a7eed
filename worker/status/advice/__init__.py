"""Why no jobs come, and what would have earned more.

earnings    from the Horde's demand (`worker.horde.demand`) to sentences, each with what it rests on; pure
predictions what was predicted for a setting, held against what came after it was changed
advisor     both beside the running worker
"""
