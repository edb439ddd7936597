# A service for one run: docker build -t redraft . && docker run -p 8000:8000 -v "$PWD/runs:/runs" redraft serve /runs/mine
# CPU by default; for NVIDIA GPUs: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 -t redraft .
FROM python:3.11-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY redraft ./redraft
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --index-url "$TORCH_INDEX" -c constraints.txt torch \
    && /venv/bin/pip install --no-cache-dir -c constraints.txt '.[serve]'

FROM python:3.11-slim
# Debian's tini, of whatever version the base image's release has.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home redraft \
    && install -d -o redraft -g redraft /runs /state
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
EXPOSE 8000
VOLUME ["/runs", "/state"]
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
ENTRYPOINT ["tini", "--", "redraft"]
CMD ["serve", "/runs/mine", "--host", "0.0.0.0", "--state", "/state"]
