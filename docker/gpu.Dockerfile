# fedsplit on NVIDIA GPUs. Built from the root of the repository, run with NVIDIA's container toolkit:
#   docker build --file docker/gpu.Dockerfile --tag fedsplit:gpu .
#   docker run --gpus all --shm-size 2g fedsplit:gpu fedsplit simulate scenarios/digits.yaml
# The CUDA release is the one of torch's wheels, which bring all libraries but the driver.
FROM nvidia/cuda:13.0.1-base-rockylinux9

ENV RAY_USAGE_STATS_ENABLED=0 \
    FLWR_TELEMETRY_ENABLED=0 \
    FEDSPLIT_DATA=/data \
    PATH=/opt/venv/bin:$PATH

RUN dnf install --assumeyes python3.11 python3.11-pip \
    && dnf clean all \
    && useradd --create-home --uid 1000 fedsplit

WORKDIR /opt/fedsplit
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY fedsplit fedsplit
# The Makefile's install without the extra `development`: whoever tests or changes fedsplit does that in a checkout.
RUN python3.11 -m venv /opt/venv \
    && python -m pip install --quiet --no-cache-dir --constraint constraints.txt --editable '.[flower]'
COPY scenarios scenarios

# A new volume takes over the owner of the folder that it is mounted on.
RUN mkdir runs /data && chown fedsplit:fedsplit runs /data
USER fedsplit
CMD ["fedsplit", "--help"]
