# Herald as a static binary on an empty file system, as a numeric user that is not root. `tests/image/run.sh` builds the
# final stage and runs it as a restricted Pod would.
#
# Build arguments: RUST_VERSION; VERSION, REVISION and CREATED for the labels; SOURCE_DATE_EPOCH for the files' time. The
# same source and Rust give the same binary, bit for bit; the CA certificates are Debian's of the day. It is built for
# amd64; `--platform linux/arm64` is accepted, and not tested.
ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-bookworm AS build
# The builder sets it from --platform.
ARG TARGETARCH
RUN case "${TARGETARCH:-$(dpkg --print-architecture)}" in \
      amd64) arch=x86_64 ;; \
      arm64) arch=aarch64 ;; \
      *) echo "Herald's image is for amd64 and arm64, not for $TARGETARCH" >&2; exit 1 ;; \
    esac \
    && apt-get update && apt-get install -y --no-install-recommends musl-tools ca-certificates \
    && rustup target add "$arch-unknown-linux-musl" \
    && echo "$arch-unknown-linux-musl" >/target
WORKDIR /src
COPY . .
# The sandbox is for trying Herald out, not for production. The caches spare the next build the dependencies.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    target=$(cat /target) \
    && cargo build --release --locked --no-default-features --target "$target" \
    && mkdir -p /out/data && cp "target/$target/release/herald" /out/herald
ARG SOURCE_DATE_EPOCH=0
RUN touch -d "@$SOURCE_DATE_EPOCH" /out/herald /out/data /etc/ssl/certs/ca-certificates.crt

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/herald /usr/bin/herald
COPY --from=build --chown=65532:65532 /out/data /data
# PATH is for `kubectl exec deploy/herald -- herald …`. `serve` and `bot` listen on the same port here, each in a container of
# its own, and keep what they must not lose in /data/herald. `stdio`, which kmcp starts once per session, keeps its messages in
# memory: on disk it would promise to send later what nobody sends once the session has ended.
ENV PATH=/usr/bin \
    HERALD_LISTEN=0.0.0.0:3000 \
    HERALD_METRICS_LISTEN=0.0.0.0:9090 \
    XDG_STATE_HOME=/data \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 3000 9090
VOLUME /data
# No HEALTHCHECK: the probes are Kubernetes' own; elsewhere `herald healthcheck` is there to be called.
ENTRYPOINT ["/usr/bin/herald"]
CMD ["serve"]
ARG VERSION=unreleased
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="Herald" \
      org.opencontainers.image.description="One server that gives kagent agents a voice in Slack, Discord and Telegram" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
