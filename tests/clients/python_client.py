"""The official Python client lists and calls over both transports: python_client.py HERALD BASE_URL."""

import asyncio
import importlib.metadata
import os
import sys

HERALD, BASE = sys.argv[1:]
VERSION = importlib.metadata.version("mcp")


async def use(client, label: str) -> None:
    tools = {tool.name for tool in (await client.list_tools()).tools}
    assert {"send_message_to_slack", "list_channels", "get_delivery"} <= tools, tools
    text = f"from Python {VERSION} over {label}"
    sent = await client.call_tool("send_message_to_slack", {"channel_id": "alerts", "text": text})
    receipt = getattr(sent, "structured_content", None) or sent.structuredContent
    assert receipt["status"] == "delivered", receipt
    refused = await client.call_tool("send_message_to_slack", {"channel_id": "C0PRIVATE", "text": "no"})
    failed = refused.is_error if hasattr(refused, "is_error") else refused.isError
    assert failed and "C0ALERTS" in refused.content[0].text, refused
    print(f"ok    Python mcp {VERSION} over {label}")


async def with_version_2() -> None:
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters

    async with Client(f"{BASE}/mcp") as client:
        await use(client, "http")
    server = StdioServerParameters(command=HERALD, args=["stdio"], env=dict(os.environ))
    async with Client(server) as client:
        await use(client, "stdio")


async def with_version_1() -> None:
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamablehttp_client

    async with streamablehttp_client(f"{BASE}/mcp") as (read, write, _):
        async with ClientSession(read, write) as session:
            await session.initialize()
            await use(session, "http")
    server = StdioServerParameters(command=HERALD, args=["stdio"], env=dict(os.environ))
    async with stdio_client(server) as (read, write):
        async with ClientSession(read, write) as session:
            await session.initialize()
            await use(session, "stdio")


asyncio.run(with_version_2() if VERSION.startswith("2.") else with_version_1())
