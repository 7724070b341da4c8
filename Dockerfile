# syntax=docker/dockerfile:1
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
# The directories in plugins/ to install, separated by spaces. Default: all.
ARG PLUGINS=*
WORKDIR /source
# Without pip: the base image's pip installs into it (PIP_PYTHON), here and in derived images.
RUN python -m venv --without-pip /opt/pegboard
ENV PIP_PYTHON=/opt/pegboard/bin/python PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_CACHE_DIR=/var/cache/pip
COPY . .
# In one command, so that pip does not look for pegboard on an index. PLUGINS may be a pattern or several names.
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
