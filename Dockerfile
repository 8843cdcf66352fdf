# docker build -t pixir-auth .
# Works with BuildKit and without it. compose.yaml beside this file shows how it is meant to run.
ARG PYTHON_IMAGE=python:3.13-slim
# The build stage alone may start from another image: one that knows your certificate authority or package mirror.
ARG BUILD_IMAGE=python:3.13-slim

FROM ${BUILD_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints-build.txt constraints-hashed.txt ./
# By hash, and wheels only: nothing downloaded is run before it is known to be what was locked.
RUN pip install -q --require-hashes --only-binary :all: -r constraints-build.txt \
 && python -m venv --without-pip /opt/pixir-auth \
 && pip --python /opt/pixir-auth/bin/python install -q --require-hashes --only-binary :all: -r constraints-hashed.txt
COPY pyproject.toml README.md LICENSE ./
COPY service service
# Bytecode of our own making: the container's root is read-only, and without it a start takes twice as long.
# unchecked-hash: no source is looked at to see whether its bytecode is still good; in an image it is.
RUN pip wheel -q --no-deps --no-build-isolation --wheel-dir /dist . \
 && pip --python /opt/pixir-auth/bin/python install -q --no-deps --no-index /dist/*.whl \
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/pixir-auth/lib

FROM ${PYTHON_IMAGE}
# The user's number is fixed, so that volumes and secrets can be given to it. The official base has the standard
# library without its bytecode, and with a pip that nobody needs any more.
RUN groupadd --gid 10001 pixir-auth \
 && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin pixir-auth \
 && install -d -o 10001 -g 10001 -m 0700 /data \
 && python -m pip uninstall -q -y --root-user-action ignore pip \
 && stdlib="$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && rm -rf "$stdlib/ensurepip" \
 && python -m compileall -q -j 0 -x '/(site-packages|test|unittest|idlelib|tkinter|turtledemo|pydoc_data|lib2to3|config-[^/]*)/' "$stdlib"
COPY --from=build /opt/pixir-auth /opt/pixir-auth
# The key file of the first start and pixir-auth.toml live in the volume too, or a new container could not read the old
# data. Whoever copies the volume then has the lock and its key: give the key as a secret instead (compose.yaml).
ENV PATH=/opt/pixir-auth/bin:$PATH \
    HOME=/data \
    XDG_CONFIG_HOME=/data/config \
    PIXIR_AUTH_DATA_DIR=/data \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /data
VOLUME /data
# It listens on loopback: whoever shares this container's network namespace finds it at localhost:1455. With a client key
# and PIXIR_AUTH_HOST=0.0.0.0 a port of it can be published (compose.yaml); without a key that does not start.
STOPSIGNAL SIGTERM
# http.client and not urllib.request, which would send this to the proxy of a HTTP_PROXY in the environment.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["python", "-IS", "-c", \
  "import os, http.client as h; c = h.HTTPConnection('localhost', int(os.environ.get('PIXIR_AUTH_PORT') or 1455), timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["pixir-auth"]
CMD ["serve"]
# Last, so that another commit finds every layer above: --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)"
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="pixir-auth" \
      org.opencontainers.image.description="The one owner of a machine's OAuth logins: log in once, then curl a valid token from localhost." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
