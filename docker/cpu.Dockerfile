# fedsplit on CPUs. Built from the root of the repository:
#   docker build --file docker/cpu.Dockerfile --tag fedsplit:cpu .
FROM python:3.11-slim

ENV RAY_USAGE_STATS_ENABLED=0 \
    FLWR_TELEMETRY_ENABLED=0 \
    FEDSPLIT_DATA=/data \
    PATH=/opt/venv/bin:$PATH

RUN useradd --create-home --uid 1000 fedsplit

WORKDIR /opt/fedsplit
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY fedsplit fedsplit
# The Makefile's install without the extra `development`: whoever tests or changes fedsplit does that in a checkout.
# torch's own index has its much smaller wheels without CUDA; everything else comes from PyPI.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN python3.11 -m venv /opt/venv \
    && python -m pip install --quiet --no-cache-dir --constraint constraints.txt --editable '.[flower]'
COPY scenarios scenarios

# A new volume takes over the owner of the folder that it is mounted on.
RUN mkdir runs /data && chown fedsplit:fedsplit runs /data
USER fedsplit
CMD ["fedsplit", "--help"]
