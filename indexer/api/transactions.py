"""`GET /v1/transactions/{network}/{hash}`: what became of a transaction, and why."""

from __future__ import annotations

from indexer.api.operation import Call, Routes
from indexer.explain import Explainer, Explanation

routes = Routes("Transactions")


@routes.operation(
    "GET", "/v1/transactions/{network}/{hash}", needs="read", answer=Explanation, refuses=(404,)
)
async def explain_transaction(call: Call) -> Explanation:
    """Explain what became of a transaction, step by step.

    Nothing is said of other accounts. Where no node answers, what is known without one is told.
    """
    context, network = call.context, call.path["network"]
    context.path_codec(network)
    explainer = Explainer(
        context.pool, context.vault, context.settings.networks, context.codecs, context.reach
    )
    return await explainer.explain(network, call.path["hash"], call.account)
