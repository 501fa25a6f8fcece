# A Litecoin node for trying things out, from Debian's own package. Regtest only.
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends litecoind \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/usr/lib/litecoin:$PATH
USER 10001:10001
ENTRYPOINT ["litecoind", "-regtest", "-datadir=/data", "-printtoconsole", "-server", "-rest"]
