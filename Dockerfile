# syntax=docker/dockerfile:1.9
# One image with the three programs: `api`, `worker` and `scheduler`; and `atelier`, whose `atelier admin` is the operator's.
# What runs in a container is its command.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The registry and the target folder stay with the builder between builds; the programs are copied out of the mount.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/usr/local/cargo/git \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package api --package worker --package scheduler --package standalone \
    && install -D -t /out target/release/api target/release/worker target/release/scheduler target/release/atelier

# ONNX Runtime comes out of the wheel that standalone/wheels.toml pins; pip refuses it if the hash is another.
FROM python:3.13-slim-bookworm AS onnxruntime
ARG TARGETARCH
COPY standalone/wheels.toml /wheels.toml
RUN <<'FETCH'
#!/usr/bin/env python3
import glob, os, subprocess, tomllib, zipfile

arch = {"amd64": "x86_64", "arm64": "aarch64"}[os.environ["TARGETARCH"]]
wheels = tomllib.load(open("/wheels.toml", "rb"))["wheel"]
wheel = next(w for w in wheels if w["name"] == "onnxruntime" and w["arch"] == arch)
python, _, platform = wheel["file"].removesuffix(".whl").split("-")[2:]
with open("/requirements.txt", "w") as file:
    file.write(f"onnxruntime=={wheel['version']} --hash=sha256:{wheel['sha256']}\n")
subprocess.run(
    ["pip", "download", "--no-cache-dir", "--no-deps", "--require-hashes", "--only-binary=:all:",
     "--python-version", python.removeprefix("cp"), "--platform", platform.split(".")[0], "--implementation", "cp",
     "--dest", "/wheel", "--requirement", "/requirements.txt"],
    check=True,
)
with zipfile.ZipFile(glob.glob("/wheel/*.whl")[0]) as archive:
    for name in archive.namelist():
        if any(name.startswith(wanted) for wanted in wheel["unpack"]):
            archive.extract(name, "/unpacked")
os.makedirs("/out")
library, = glob.glob("/unpacked/onnxruntime/capi/libonnxruntime.so*")
os.rename(library, "/out/libonnxruntime.so")
os.rename("/unpacked/onnxruntime/LICENSE", "/out/LICENSE")
os.rename("/unpacked/onnxruntime/ThirdPartyNotices.txt", "/out/ThirdPartyNotices.txt")
FETCH

FROM debian:bookworm-slim AS runtime
# curl answers the health checks; the certificates are for S3 and PostgreSQL over TLS
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin atelier
COPY --from=onnxruntime /out /opt/onnxruntime
COPY --from=build /out /usr/local/bin
COPY models /app/models
WORKDIR /app
ENV ORT_DYLIB_PATH=/opt/onnxruntime/libonnxruntime.so \
    ATELIER_MODELS_DIR=/app/models \
    MALLOC_TRIM_THRESHOLD_=131072
USER atelier
STOPSIGNAL SIGTERM
CMD ["api"]
