"""Run in pods before Dask does, to give them the packages they lack."""
