from locust import FastHttpUser, task


class Reader(FastHttpUser):
    @task(3)
    def list_notes(self) -> None:
        self.client.get("/notes")

    @task(1)
    def write_note(self) -> None:
        self.client.post("/notes", json={"text": "another note"})

    @task(1)
    def about(self) -> None:
        self.client.get("/about")
