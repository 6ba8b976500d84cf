# Not built by this project's tests yet: they run where no container engine does.
#
# Build: Debian 12 with its own compiler; the BPF side needs the compiler's library source and a matching LLVM.
FROM debian:12 AS build
COPY . /lb
WORKDIR /lb
RUN ./dev setup && ./dev build

# Run: the binary and the C library. It needs, on the host's network (`--network host`):
#   CAP_BPF, CAP_NET_ADMIN  load the program, fill its tables, attach it, ask for routes and neighbours
#   CAP_PERFMON             reading packet pointers in the verifier's eyes
# and the host's bpffs: `-v /sys/fs/bpf:/sys/fs/bpf`, so that forwarding outlives the container.
FROM debian:12-slim
COPY --from=build /lb/target/release/lb /usr/sbin/lb
COPY config/minimal.toml /etc/lb/lb.toml
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s CMD ["lb", "status", "--check"]
ENTRYPOINT ["lb"]
CMD ["run", "--config", "/etc/lb/lb.toml"]
