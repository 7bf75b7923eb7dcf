# One node of neumann, as an unprivileged user; docker-compose.yml runs three.
#
# The first stage installs into a virtual environment; the last has that, and no compiler, pip or source.
# Every package comes as a wheel; on a platform that lacks one, a first stage with a C compiler builds it:
#   docker build --build-arg BUILD_BASE=python:3.11-bookworm .
# The other arguments of the build are pip's settings of the same names.
ARG BASE=python:3.11-slim-bookworm
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
WORKDIR /source
RUN python3 -m venv /opt/neumann
COPY pyproject.toml README.md LICENSE ./
COPY neumann neumann
RUN /opt/neumann/bin/pip install --no-cache-dir ".[all]" \
 && /opt/neumann/bin/pip uninstall --yes setuptools pip

FROM ${BASE}
RUN useradd --system --home-dir /var/lib/neumann neumann \
 && install -d -o neumann -g neumann /var/lib/neumann /archive /archive/wal /archive/snapshots
COPY --from=build /opt/neumann /opt/neumann
ENV PATH=/opt/neumann/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER neumann
WORKDIR /var/lib/neumann
VOLUME /var/lib/neumann
EXPOSE 7878 9090
# Unhealthy while it does not serve; the answer says why and what to do, and `docker inspect` shows it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python3", "-c", "\
import http.client, sys;\
node = http.client.HTTPConnection('127.0.0.1', 9090, timeout=4);\
node.request('GET', '/health');\
answer = node.getresponse();\
print(answer.read().decode());\
sys.exit(answer.status != 200)"]
CMD ["neumann"]
