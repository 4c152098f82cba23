"""One agent on a real server of the official A2A SDK, for the live test of Herald's client.

    a2a_server.py PORT      with a2a-sdk 0.3.x it speaks A2A 0.3, with 1.x it speaks 1.0

What it does is in the first word it is told: ping, message, stream, remember, recall, ask, slow, wait and release, drop,
fail, file, approve.
"""

import asyncio
import base64
import sys
from importlib.metadata import version

import uvicorn
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentSkill

OLD = version("a2a-sdk").startswith("0.")
HITL = "https://kagent.dev/extensions/hitl/v1"
PATH = "/agent/"

if OLD:
    from a2a.server.apps import A2AStarletteApplication
    from a2a.types import DataPart, FilePart, FileWithBytes, Message, Part, Role, TextPart
    from a2a.utils import new_agent_text_message, new_task

    def text_part(text):
        return Part(root=TextPart(text=text))

    def file_part(name, mime, data):
        encoded = base64.b64encode(data).decode()
        return Part(root=FilePart(file=FileWithBytes(name=name, mime_type=mime, bytes=encoded)))

    def texts(message):
        return [part.root.text for part in message.parts if part.root.kind == "text"]

    def files(message):
        found = [part.root.file for part in message.parts if part.root.kind == "file"]
        return [(file.name, file.mime_type, base64.b64decode(file.bytes)) for file in found]

    def text_message(text, context):
        return new_agent_text_message(text, context.context_id, context.task_id)

    def approval(context):
        call = {"id": "call-1", "name": "delete_file", "args": {"path": "/data/example"}}
        confirmation = {"hint": "delete_file needs approval", "confirmed": False, "payload": None}
        data = {
            "name": "adk_request_confirmation",
            "id": "adk-1",
            "args": {"originalFunctionCall": call, "toolConfirmation": confirmation},
        }
        metadata = {"kagent_type": "function_call", "kagent_is_long_running": True}
        return Message(
            role=Role.agent,
            message_id="approval",
            context_id=context.context_id,
            task_id=context.task_id,
            parts=[Part(root=DataPart(data=data, metadata=metadata))],
        )

    def decided(message):
        data = next(part.root.data for part in message.parts if part.root.kind == "data")
        return data["decisions"]["call-1"] == "approve"

else:
    from a2a.helpers import new_raw_part, new_task_from_user_message, new_text_message, new_text_part
    from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
    from a2a.types import AgentInterface
    from google.protobuf.json_format import MessageToDict
    from starlette.applications import Starlette

    new_task = new_task_from_user_message
    text_part = new_text_part

    def file_part(name, mime, data):
        return new_raw_part(data, media_type=mime, filename=name)

    def texts(message):
        return [part.text for part in message.parts if part.HasField("text")]

    def files(message):
        found = [part for part in message.parts if part.HasField("raw")]
        return [(part.filename, part.media_type, part.raw) for part in found]

    def text_message(text, context):
        return new_text_message(text, context_id=context.context_id, task_id=context.task_id)

    def approval(context):
        message = text_message("delete_file needs approval", context)
        message.extensions.append(HITL)
        tool = {"id": "adk-1", "call_id": "call-1", "name": "delete_file", "args": {"path": "/data/example"}}
        message.metadata.update(
            {HITL: {"type": "tool_approval_request", "hint": "delete_file needs approval", "tools": [tool]}}
        )
        return message

    def decided(message):
        assert HITL in message.extensions
        payload = MessageToDict(message.metadata)[HITL]
        return payload == {"type": "tool_approval_response", "approvals": [{"id": "adk-1", "approved": True}]}


class Agent(AgentExecutor):
    """Keeps what each context said, and the doors that `wait` waits at."""

    def __init__(self):
        self.said = {}
        self.doors = {}

    def door(self, context_id):
        return self.doors.setdefault(context_id, asyncio.Event())

    async def execute(self, context, queue):
        message = context.message
        text = " ".join(texts(message))
        said = self.said.setdefault(context.context_id, [])
        said.append(text)
        word = text.split(" ")[0] if text else ""
        if word == "message":
            await queue.enqueue_event(text_message("only a message", context))
            return
        resumed = context.current_task is not None
        if not resumed:
            await queue.enqueue_event(new_task(message))
        updater = TaskUpdater(queue, context.task_id, context.context_id)
        await updater.start_work()
        if resumed:
            answer = f"you said {text}"
            if said[-2] == "approve":
                answer = "deleted" if decided(message) else "kept"
            await updater.add_artifact([text_part(answer)])
        elif word == "ask":
            await updater.requires_input(text_message("Which colour?", context))
            return
        elif word == "approve":
            await updater.requires_input(approval(context))
            return
        elif word == "fail":
            await updater.failed(text_message("the model refused", context))
            return
        elif word == "stream":
            for at, piece in enumerate(["one ", "two ", "three"]):
                await updater.add_artifact(
                    [text_part(piece)], artifact_id="counted", append=at > 0, last_chunk=at == 2
                )
        elif word == "slow":
            await asyncio.sleep(float(text.split(" ")[1]))
            await updater.add_artifact([text_part("slept")])
        elif word in ("wait", "drop"):
            await updater.add_artifact([text_part("before, ")], artifact_id="long")
            await self.door(context.context_id).wait()
            await updater.add_artifact([text_part("after")], artifact_id="long", append=True)
        elif word == "release":
            self.door(context.context_id).set()
            await updater.add_artifact([text_part("released")])
        elif word == "file":
            await updater.add_artifact([file_part(*file) for file in files(message)])
        elif word == "recall":
            await updater.add_artifact([text_part(f"{len(said)} messages, the first: {said[0]}")])
        else:
            await updater.add_artifact([text_part("pong")])
        await updater.complete()

    async def cancel(self, context, queue):
        await TaskUpdater(queue, context.task_id, context.context_id).cancel()


class Dropping:
    """Breaks the connection of a stream that was asked for with `drop`, after its second event."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        drops, pieces = False, 0

        async def listen():
            nonlocal drops
            message = await receive()
            drops = drops or b'"drop' in message.get("body", b"")
            return message

        async def speak(message):
            nonlocal pieces
            if drops and message["type"] == "http.response.body" and message.get("body"):
                pieces += 1
                if pieces > 2:
                    raise ConnectionResetError("dropped on purpose")
            await send(message)

        await self.app(scope, listen, speak)


def application():
    # Nobody listens there: a client has to send to the URL it was given.
    elsewhere = "http://127.0.0.1:9/"
    common = {
        "name": "live",
        "description": "an agent on the official SDK",
        "version": "1",
        "capabilities": AgentCapabilities(streaming=True),
        "default_input_modes": ["text"],
        "default_output_modes": ["text"],
        "skills": [AgentSkill(id="talk", name="talk", description="talks", tags=["talk"])],
    }
    if OLD:
        card = AgentCard(url=elsewhere, **common)
        handler = DefaultRequestHandler(Agent(), InMemoryTaskStore())
        app = A2AStarletteApplication(agent_card=card, http_handler=handler)
        return app.build(rpc_url=PATH, agent_card_url=f"{PATH}.well-known/agent-card.json")
    interface = AgentInterface(url=elsewhere, protocol_binding="JSONRPC", protocol_version="1.0")
    card = AgentCard(supported_interfaces=[interface], **common)
    handler = DefaultRequestHandler(Agent(), InMemoryTaskStore(), card)
    card_routes = create_agent_card_routes(card, card_url=f"{PATH}.well-known/agent-card.json")
    return Starlette(routes=[*card_routes, *create_jsonrpc_routes(handler, PATH)])


if __name__ == "__main__":
    uvicorn.run(
        Dropping(application()),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
