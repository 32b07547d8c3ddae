# An image from static executables that are there already; needs no network and no base.
#   cargo rustc --release -p odeon-cli --bin odeon -- -C target-feature=+crt-static
#   cargo rustc --release -p poll --bin poll -- -C target-feature=+crt-static
#   docker build -f docker/prebuilt.Dockerfile -t odeon DIR     where DIR holds odeon, poll, and empty folders state and tokens
FROM scratch
COPY odeon poll /
COPY --chown=65532:65532 state /var/lib/odeon
COPY --chown=65532:65532 tokens /tokens
USER 65532:65532
EXPOSE 7400/udp 7480/tcp 8080/tcp
ENTRYPOINT ["/odeon"]
CMD ["agent", "--data", "/var/lib/odeon"]
