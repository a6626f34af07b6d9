# Serves checkpoints over HTTP on CPUs: model/ and service/, without anything of training.
#
#   docker build -t dragoman:0.1.0 .
#   docker run --read-only -p 127.0.0.1:8000:8000 -v "$PWD/models:/models:ro" dragoman:0.1.0
#
# For GPUs leave the index out, which gives PyPI's CUDA wheels, and name the device:
#
#   docker build -t dragoman-gpu:0.1.0 --build-arg TORCH_INDEX= .
#   docker run --gpus all -e DRAGOMAN_DEVICE=cuda -p 127.0.0.1:8000:8000 -v "$PWD/models:/models:ro" dragoman-gpu:0.1.0
#
# .ci/dockerfile_steps.py carries out this file where no docker engine is at hand. It knows the
# instructions used here and refuses others.

FROM python:3.13-slim

# Wheels of torch without CUDA are a tenth of the size.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PYTHONUNBUFFERED=1
ENV PYTHONDONTWRITEBYTECODE=1

WORKDIR /app

# In a layer of its own: it changes only with constraints.txt.
COPY constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch

COPY pyproject.toml README.md LICENSE ./
COPY model ./model
COPY service ./service
RUN pip install --no-cache-dir --constraint constraints.txt .

# A number, so that Kubernetes can see that it is not root. It needs no home and writes nothing.
USER 10001:10001

VOLUME /models
EXPOSE 8000

# Ready rather than live: what waits for "healthy" (compose, Swarm) wants to send requests. Overload
# does not turn it red; loading and draining do. Kubernetes ignores this and probes both by itself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]

ENTRYPOINT ["dragoman", "serve", "/models", "--host", "0.0.0.0"]
