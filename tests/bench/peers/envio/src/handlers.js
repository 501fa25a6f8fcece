const { Token } = require("generated");

Token.Transfer.handler(
  async ({ event, context }) => {
    context.Transfer.set({
      id: `${event.block.number}_${event.logIndex}`,
      token: event.srcAddress,
      sender: event.params.from,
      recipient: event.params.to,
      units: event.params.value,
    });
  },
  { wildcard: true },
);
