from locust import FastHttpUser, task


class Visitor(FastHttpUser):
    @task(3)
    def home(self) -> None:
        self.client.get("/")

    @task(2)
    def prices(self) -> None:
        self.client.get("/api/prices")

    @task(1)
    def enquire(self) -> None:
        self.client.post("/api/enquiries", json={"what": "tea"})
