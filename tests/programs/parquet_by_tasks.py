# Each task writes its part of a table as Parquet: by compiled code, whose files Python's audit events do not tell of.
# Source: as fold_files, with pyarrow in the place of Python's own files
# Kind: A
# Told in pods: runs in this process: its tasks write files
# Slow
from pathlib import Path

import pyarrow
import pyarrow.parquet
from joblib import Parallel, delayed


def write(number):
    table = pyarrow.table({"number": list(range(number))})
    pyarrow.parquet.write_table(table, f"part{number}.parquet")
    return number


print(Parallel()(delayed(write)(number) for number in range(1, 5)))
print([pyarrow.parquet.read_table(path).num_rows for path in sorted(Path().glob("part*.parquet"))])
