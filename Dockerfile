# Herald as a static binary on an empty file system, as a numeric user that is not root.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools ca-certificates \
    && rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /src
COPY . .
# The sandbox is for trying Herald out, not for production.
RUN target="$(uname -m)-unknown-linux-musl" \
    && cargo build --release --locked --no-default-features --target "$target" \
    && mkdir -p /out/data && cp "target/$target/release/herald" /out/herald

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/herald /usr/bin/herald
COPY --from=build --chown=65532:65532 /out/data /data
# `serve` and `bot` listen on the same port here, each in a container of its own, and keep what they must not lose in
# /data/herald. `stdio`, which kmcp starts once per session, keeps its messages in memory: on disk it would promise to send
# later what nobody sends once the session has ended.
ENV HERALD_LISTEN=0.0.0.0:3000 \
    XDG_STATE_HOME=/data \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 3000
VOLUME /data
ENTRYPOINT ["/usr/bin/herald"]
CMD ["serve"]
