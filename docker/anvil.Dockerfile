# An EVM node for trying things out, as the tests pin it. It gives anybody its accounts.
FROM node:22-bookworm-slim
WORKDIR /opt/anvil
COPY tests/node/package.json tests/node/package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund
USER node
ENTRYPOINT ["npx", "--no-install", "anvil", "--host", "0.0.0.0", "--block-time", "5"]
