import os

from database import connect
from flask import Flask, jsonify, request

app = Flask(__name__)


@app.get("/health")
def health():
    with connect() as connection:
        connection.execute("SELECT 1")
    return "ok"


@app.get("/about")
def about():
    return jsonify(motto=os.environ["MOTTO"], release=os.environ["RELEASE"])


@app.get("/notes")
def notes():
    with connect() as connection:
        rows = connection.execute("SELECT id, text, tag FROM notes ORDER BY id LIMIT 20").fetchall()
    return jsonify([{"id": row[0], "text": row[1], "tag": row[2]} for row in rows])


@app.post("/notes")
def write():
    text = (request.get_json(silent=True) or {}).get("text")
    if not text:
        return jsonify(error="text is missing"), 400
    with connect() as connection:
        row = connection.execute("INSERT INTO notes (text) VALUES (%s) RETURNING id", (text,)).fetchone()
    return jsonify(id=row[0]), 201


@app.get("/notes/<int:number>")
def note(number):
    with connect() as connection:
        row = connection.execute("SELECT text FROM notes WHERE id = %s", (number,)).fetchone()
    return jsonify(text=row[0]) if row else (jsonify(error="no such note"), 404)
