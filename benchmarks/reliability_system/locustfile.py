from locust import FastHttpUser, task


class Visitor(FastHttpUser):
    @task
    def with_back(self) -> None:
        self.client.get("/with-back")

    @task
    def alone(self) -> None:
        self.client.get("/alone")
