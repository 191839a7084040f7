"""The adapters for agents have the methods that their frameworks call, whether the frameworks are installed
or not."""

from __future__ import annotations

import importlib
import unittest

import interfaces

from session_store import claude_agent, langgraph, openai_agents

ADAPTERS = [
    (openai_agents.SessionStoreSession, interfaces.OpenAISession, "agents.memory.session", "Session"),
    (claude_agent.ClaudeSessionStore, interfaces.ClaudeStore, "claude_agent_sdk", "SessionStore"),
    (
        langgraph.SessionStoreSaver,
        interfaces.Checkpointer,
        "langgraph.checkpoint.base",
        "BaseCheckpointSaver",
    ),
]


class Interfaces(unittest.TestCase):
    def test_adapters_have_what_is_written_down(self):
        for adapter, interface, _, _ in ADAPTERS:
            with self.subTest(adapter=adapter.__name__):
                self.assertEqual(interfaces.differences(adapter, interface), [])

    def test_what_is_written_down_is_what_an_installed_framework_has(self):
        tried = 0
        for _, interface, module, name in ADAPTERS:
            with self.subTest(interface=interface.__name__):
                try:
                    theirs = getattr(importlib.import_module(module), name)
                except ImportError:
                    continue
                tried += 1
                self.assertEqual(interfaces.differences(theirs, interface), [])
                self.assertEqual(
                    interfaces.differences(interface, theirs), [], "the framework has more by now"
                )
        if not tried:
            self.skipTest("no framework for agents is installed")

    def test_a_difference_is_seen(self):
        class Changed:
            async def get_items(self, limit, wrapper):
                ...

            def add_items(self, items):
                ...

            async def pop_item(self):
                ...

        self.assertEqual(
            interfaces.differences(Changed, interfaces.OpenAISession),
            [
                "get_items: limit is another",
                "get_items needs a wrapper",
                "add_items is a function in place of a coroutine",
                "clear_session is missing",
            ],
        )


if __name__ == "__main__":
    unittest.main()
