# The image of every process of digits: `make image`, or `docker build -t digits .`
#
# Its command is a command of `digits`; docs/scale.md says which processes a team runs. For NVIDIA
# GPUs add `--build-arg DEVICE=gpu`. Libraries come from the lock files, with hashes. A package
# index of your own is configured with `--secret id=pip,src=pip.conf`, which no layer keeps.

ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS libraries
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/digits
# The lock file is given twice: as a constraint it also pins requirements with extras.
COPY requirements.txt requirements-team.txt /locks/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/digits/bin/pip install --compile --require-hashes \
    -r /locks/requirements.txt -r /locks/requirements-team.txt -c /locks/requirements-team.txt
COPY requirements-gpu.txt /locks/
ARG DEVICE=cpu
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    case "$DEVICE" in \
    cpu) ;; \
    gpu) /opt/digits/bin/pip install --compile --require-hashes \
         -r /locks/requirements-gpu.txt -c /locks/requirements-gpu.txt ;; \
    *) echo "DEVICE=$DEVICE is unknown (expected cpu or gpu)" >&2; exit 1 ;; \
    esac

FROM libraries AS project
WORKDIR /project
COPY pyproject.toml setup.py MANIFEST.in prefect.yaml automations.yaml ./
COPY data/datasets data/datasets
COPY digits digits
COPY tasks tasks
COPY flows flows
RUN /opt/digits/bin/pip install --compile --no-deps --no-build-isolation --prefix=/installed .

FROM libraries AS slim
# 430 MB of C++ headers, for those who write operations of their own.
RUN rm -r /opt/digits/lib/python3*/site-packages/tensorflow/include \
    && /opt/digits/bin/pip uninstall --yes pip

FROM ${BASE}
LABEL org.opencontainers.image.title="digits" \
      org.opencontainers.image.description="Retrains two digit classifiers and promotes the better one"
# Kubernetes compares numbers, not names, to see that a user is not root.
RUN useradd --uid 10001 --home-dir /workspace --no-create-home --shell /usr/sbin/nologin digits \
    && install --directory --owner digits --group digits /workspace
# Two layers: a change of the code does not move the libraries again.
COPY --from=slim /opt/digits /opt/digits
COPY --from=project /installed /opt/digits
ENV PATH=/opt/digits/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/workspace \
    DIGITS_HOME=/workspace
USER 10001:10001
WORKDIR /workspace
VOLUME /workspace
EXPOSE 4200 8000
ENTRYPOINT ["digits"]
CMD ["--help"]
