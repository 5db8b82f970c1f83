# A client with options, used as a context, then closed; calls after it run as ever.
# Source: dask-examples' scale-scikit-learn (`Client(n_workers=…)`), dask/distributed#2908
# Kind: G
# Told: is the cluster of this run
from dask.distributed import Client
from joblib import Parallel, delayed, parallel_backend


def square(number):
    return number**2


if __name__ == "__main__":
    with Client(n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        with parallel_backend("dask"):
            print(Parallel()(delayed(square)(number) for number in range(5)))
        print(client.submit(square, 7).result())
    print(client.status)
    print(Parallel(n_jobs=2)(delayed(square)(number) for number in range(5)))
