

client = app.test_client()  # noqa: F821
assert [client.get("/").text for _ in range(3)] == ["1", "2", "3"]
