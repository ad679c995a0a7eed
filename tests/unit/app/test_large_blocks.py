"""Memory of pictures leaves the process when they are freed."""

import subprocess
import sys

CHECK = """
import io, threading, psutil
from PIL import Image
from worker.untrusted.pictures import open_picture
from worker.app.lifecycle import give_back_large_blocks

given = give_back_large_blocks()
out = io.BytesIO()
Image.new("RGB", (2048, 2048)).save(out, "WEBP")
before = psutil.Process().memory_info().rss
for _ in range(3):
    worker = threading.Thread(target=open_picture, args=[out.getvalue()])
    worker.start()
    worker.join()
print(int(given), (psutil.Process().memory_info().rss - before) >> 20)
"""


def test_large_blocks_that_a_thread_freed_are_the_systems_again():
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=True, timeout=60)
    given, left_mib = map(int, done.stdout.split())
    assert not given or left_mib < 16
