# The script goes to a folder of its data and lets tasks read files there by their names.
# Source: dask/distributed#2120, Stack Overflow "os.chdir and joblib"
# Kind: B
# Slow
import os
from pathlib import Path
from joblib import Parallel, delayed

Path("data").mkdir(exist_ok=True)
for name in "abc":
    Path("data", f"{name}.txt").write_text(name * (ord(name) - 90))
os.chdir("data")


def size(name):
    return name, len(Path(f"{name}.txt").read_text()), os.path.basename(os.getcwd())


print(Parallel()(delayed(size)(name) for name in "abc"))
os.chdir("..")
print(Parallel()(delayed(os.path.exists)(name) for name in ("data/a.txt", "a.txt")))
