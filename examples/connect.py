"""What the clients in Python share: connections, and an answer that must be as told."""
import json
import os
import time

import psycopg2
import redis


def connect(user):
    """Calls in SQL as one role: the first column of the first row, None when there is none."""
    connection = psycopg2.connect(user=user)  # PGHOST, PGPORT, PGDATABASE say where
    connection.autocommit = True
    cursor = connection.cursor()

    def sql(text, *values):
        cursor.execute(text, values)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]

    return sql


def connect_redis():
    """A client of what REDIS_URL names: redis://, rediss://, or unix:// and a path."""
    return redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost"), decode_responses=True)


def show(what, got, expected):
    """Print what came out; end the program if it is not what was expected."""
    print(what, json.dumps(got), sep=": ")
    assert got == expected, (what, got, expected)


def sqlstate(sql, text, *values):
    """The SQLSTATE that a call fails with, "00000" if it does not."""
    try:
        sql(text, *values)
        return "00000"
    except psycopg2.Error as error:
        return error.pgcode


def wait_until(call, *args):
    """What a call returns once that is true."""
    deadline = time.monotonic() + 60
    while not (answer := call(*args)):
        assert time.monotonic() < deadline, ("not within a minute", args)
        time.sleep(0.05)
    return answer
