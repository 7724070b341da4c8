# syntax=docker/dockerfile:1
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
# The folders below plugins/ that go into the image, separated by spaces. As it is: all.
ARG PLUGINS=*
WORKDIR /source
# Without a pip of its own: the one of the base image installs into it, here and in images that derive from this one.
RUN python -m venv --without-pip /opt/pegboard
ENV PIP_PYTHON=/opt/pegboard/bin/python PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_CACHE_DIR=/var/cache/pip
COPY . .
# All at once, so that no plugin asks an index for pegboard. PLUGINS is not quoted: it may be a pattern or several names.
RUN --mount=type=cache,target=/var/cache/pip \
    set -eu; \
    cd plugins; \
    for name in $PLUGINS; do set -- "$@" "./$name"; done; \
    pip install .. "$@"

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="Pegboard" \
      org.opencontainers.image.description="An HTTP service whose resources are plugins" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 pegboard \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /var/lib/pegboard --shell /usr/sbin/nologin pegboard
COPY --from=build /opt/pegboard /opt/pegboard
ENV PATH=/opt/pegboard/bin:$PATH \
    PEGBOARD_HOST=0.0.0.0 \
    PIP_PYTHON=/opt/pegboard/bin/python \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/pegboard
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --start-interval=3s --retries=3 \
    CMD ["pegboard", "healthcheck"]
ENTRYPOINT ["pegboard"]
CMD ["serve"]
