"""How a question and its reply look on the wire: address and headers, the request, the reply, what a refusal means."""
