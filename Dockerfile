# The image that scheduler, workers and the Dask operator run: Dask, scikit-learn and what they need, nothing else.
# skjob's own source comes from the client at run time (PYTHONPATH), so one image serves every skjob of a release.
#   docker build -t skjob .                                   Python 3.11
#   docker build -t skjob --build-arg BASE=python:3.13-slim . another Python
ARG BASE=python:3.11-slim

FROM ${BASE} AS packages
WORKDIR /build
COPY image-requirements.lock image-dashboard.lock ./
# Wheels only: nothing is ever compiled here. No pip in the environment: the base image's serves it.
# The secret `ca`, where given, holds the certificates that pip trusts: --secret id=ca,src=bundle.crt
RUN --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
 && python -m venv --system-site-packages --without-pip /opt/skjob \
 && python -m pip --python /opt/skjob/bin/python install --no-cache-dir --no-compile --no-deps --ignore-installed \
      --only-binary :all: --requirement image-requirements.lock \
 && python -m pip install --no-cache-dir --no-compile --no-deps --only-binary :all: \
      --target /opt/skjob-dashboard --requirement image-dashboard.lock
COPY image-trim ./
RUN /opt/skjob/bin/python image-trim /opt/skjob/lib/python3*/site-packages /opt/skjob-dashboard

FROM ${BASE}
ARG VERSION=dev
ARG REVISION=unknown
ARG SOURCE=
LABEL org.opencontainers.image.title="skjob" \
      org.opencontainers.image.description="Dask scheduler, workers and operator for skjob, with scikit-learn" \
      org.opencontainers.image.licenses="BSD-3-Clause" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
# The standard library too: official Python images carry none of its .pyc files, and no pod can write them.
RUN python -m compileall -q -x '/(test|tests|idlelib|lib2to3|ensurepip|turtledemo|(site|dist)-packages)/' \
      "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
# a name for the user's number, because getpass.getuser() fails without one
RUN echo 'skjob:x:1000:1000:skjob:/tmp:/usr/sbin/nologin' >> /etc/passwd && echo 'skjob:x:1000:' >> /etc/group
COPY --from=packages /opt/skjob /opt/skjob
COPY --from=packages /opt/skjob-dashboard /opt/skjob-dashboard
# the root file system is read-only in the pods, /tmp is not: nothing writes beside its own code
ENV PATH=/opt/skjob/bin:$PATH \
    VIRTUAL_ENV=/opt/skjob \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /tmp
CMD ["python"]
